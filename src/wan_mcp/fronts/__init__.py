"""The entry points: MCP, HTTP and the command line."""
