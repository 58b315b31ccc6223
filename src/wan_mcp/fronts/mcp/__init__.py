"""Everything that knows MCP: the server, its tools, resources, prompts and progress."""
