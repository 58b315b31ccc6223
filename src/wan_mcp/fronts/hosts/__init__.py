"""Programs that start MCP servers: where each keeps its configuration, and what has to stand there for this server."""
