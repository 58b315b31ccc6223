"""`wan-mcp bench`: this machine's seconds, and those of plain diffusers, in the same run."""
