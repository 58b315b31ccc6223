"""Everything specific to MCP: the server, its tools, resources, prompts and progress."""
