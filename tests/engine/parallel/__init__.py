"""Tests of `wan_mcp.engine.parallel`."""
