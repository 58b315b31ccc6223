"""Lines that commands print: what others wrote (prompts, captions, manifests, errors) cannot steer the terminal.

Results go to stdout, all else to stderr. JSON is printed by its commands themselves: it escapes such characters itself.
Tables and bars: `screen.py`.
"""

import sys

import typer

from wan_mcp.text import escaped, one_line

__all__ = ["LAYOUT", "be_quiet", "echo", "echo_path", "is_quiet"]

LAYOUT = "\n\t"
"""What may lay out a text of several lines."""


_quiet = False


def be_quiet(wanted: bool) -> None:
    """Print nothing to stderr but errors from now on, or all of it."""
    global _quiet
    _quiet = wanted


def is_quiet() -> bool:
    """Return whether stderr is for errors only."""
    return _quiet


def echo(text: object, *, err: bool = False, fg: str | None = None, nl: bool = True) -> None:
    """Print a text to stdout, or to stderr with `err`."""
    typer.secho(escaped(str(text), keep=LAYOUT), err=err, fg=fg, nl=nl)


def echo_path(path: object) -> None:
    """Print a path to stdout: as it is for programs, escaped for eyes."""
    typer.echo(one_line(str(path)) if sys.stdout.isatty() else str(path))
