"""A console for tables, bars and lines in colour, on which texts of others are only shown.

Import it where it is used: rich takes longer to import than a command may take to start.
"""

import sys
from typing import Any

from rich.console import Console

from wan_mcp.fronts.cli.terminal import LAYOUT, is_quiet
from wan_mcp.text import escaped

__all__ = ["Screen"]

PIPE_COLUMNS = 10_000
"""Width at which nothing is cut or wrapped."""


class Screen(Console):
    """A console that prints texts as they are: markup is text, and control characters are shown."""

    def __init__(self, *, stderr: bool = True, whole: bool = False) -> None:
        """Print to stderr, or to stdout; with `whole`, stdout is as wide as it needs to be if it is not a terminal."""
        width = PIPE_COLUMNS if whole and not sys.stdout.isatty() else None
        quiet = stderr and is_quiet()
        super().__init__(stderr=stderr, width=width, quiet=quiet, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print like rich; a text is not wrapped."""
        shown = [escaped(each, keep=LAYOUT) if isinstance(each, str) else each for each in objects]
        unwrapped = {"soft_wrap": all(isinstance(each, str) for each in shown)}
        super().print(*shown, **(unwrapped | options))
