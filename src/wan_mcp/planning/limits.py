"""Checks of values: too long, too small or too large ones are refused with the allowed range."""

from typing import TypeVar

from wan_mcp.errors import BadRequest

__all__ = ["checked_or_default", "checked_text", "require_within"]

N = TypeVar("N", int, float)


def checked_text(what: str, text: str, longest: int) -> str:
    """Return the text without surrounding white space.

    Raises:
        BadRequest: It has more than `longest` characters.
    """
    if len(text) > longest:
        raise BadRequest(f"{what} is {len(text)} characters long; the limit is {longest}")
    return text.strip()


def require_within(what: str, value: float, smallest: float, largest: float) -> None:
    """Raise `BadRequest` for a value outside these bounds, or NaN.

    Raises:
        BadRequest: The message names the bounds.
    """
    if not smallest <= value <= largest:
        raise BadRequest(f"{what} {value:g} is not allowed; it must be {smallest:g} to {largest:g}")


def checked_or_default(what: str, value: N | None, default: N, bounds: tuple[N, N]) -> N:
    """Return the value after a check of its bounds, or the default if it is None.

    Raises:
        BadRequest: It is out of bounds.
    """
    if value is None:
        return default
    require_within(what, value, *bounds)
    return value
