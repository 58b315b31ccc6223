"""The doors: MCP, HTTP and the command line."""
