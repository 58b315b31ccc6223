"""The command `wan-mcp`. Like every front it uses the job service, and never imports torch."""

from wan_mcp.fronts.cli.main import main

__all__ = ["main"]
