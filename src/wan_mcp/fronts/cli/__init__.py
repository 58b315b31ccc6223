"""The command `wan-mcp`. It talks to jobs like every other front, and never imports torch."""

from wan_mcp.fronts.cli.main import main

__all__ = ["main"]
