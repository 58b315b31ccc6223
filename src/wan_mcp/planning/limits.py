"""Values checked at the door: what is too long, too small or too large is refused with what is allowed."""

from typing import TypeVar

from wan_mcp.errors import BadRequest

__all__ = ["checked_or_default", "checked_text", "require_within"]

N = TypeVar("N", int, float)


def checked_text(what: str, text: str, longest: int) -> str:
    """The text without white space around it.

    Raises:
        BadRequest: it has more than `longest` characters.
    """
    if len(text) > longest:
        raise BadRequest(f"{what} has {len(text)} characters; at most {longest} are taken: shorten it")
    return text.strip()


def require_within(what: str, value: float, smallest: float, largest: float) -> None:
    """Refuse a value outside these bounds, and NaN.

    Raises:
        BadRequest: names them.
    """
    if not smallest <= value <= largest:
        raise BadRequest(f"{what} {value:g} is not allowed; it must be {smallest:g} to {largest:g}")


def checked_or_default(what: str, value: N | None, default: N, bounds: tuple[N, N]) -> N:
    """The value, if one was given, within its bounds.

    Raises:
        BadRequest: it lies outside.
    """
    if value is None:
        return default
    require_within(what, value, *bounds)
    return value
