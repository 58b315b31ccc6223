"""Logging of a process: plain lines on stderr, which MCP hosts keep as the server's log."""

import logging
import sys

__all__ = ["log_to_stderr"]


def log_to_stderr(level: str) -> None:
    """Log to stderr from `level` on, unless logging is already set up.

    Call it before a server is built: the SDK would otherwise choose a format made for terminals.
    """
    logging.basicConfig(stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
