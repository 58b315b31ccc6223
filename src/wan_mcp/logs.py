"""Logging of a process: plain lines on stderr, which MCP hosts keep as the server's log."""

import logging
import sys

from wan_mcp.text import escaped

__all__ = ["log_to_stderr"]


def log_to_stderr(level: str) -> None:
    """Log to stderr from `level` on, unless logging is already set up.

    Call it before a server is built: the SDK would otherwise choose a format made for terminals.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    for library in ("httpx", "httpx2"):  # at INFO they write whole URLs, which may have a secret in them
        logging.getLogger(library).setLevel(logging.WARNING)


class _Lines(logging.Formatter):
    """Entries in which nothing that others wrote steers a terminal, or looks like another entry."""

    def format(self, record: logging.LogRecord) -> str:
        """Format an entry; its lines after the first are indented."""
        return escaped(super().format(record), keep="\n\t").replace("\n", "\n    ")
