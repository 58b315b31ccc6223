"""Everything that knows MCP."""
