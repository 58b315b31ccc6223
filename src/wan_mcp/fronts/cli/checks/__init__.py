"""The checks of `wan-mcp doctor`, one module for each part of what a job needs."""
