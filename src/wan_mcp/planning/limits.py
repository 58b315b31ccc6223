"""Checks of values: too long, too small or too large ones are refused with the allowed range."""

import secrets
from typing import TypeVar

from wan_mcp.errors import BadRequest
from wan_mcp.schema.parameters import MAX_SEED
from wan_mcp.text import number

__all__ = ["checked_or_default", "checked_text", "require_within", "resolve_seed"]

N = TypeVar("N", int, float)


def checked_text(what: str, text: str, longest: int) -> str:
    """Return the text as it was sent.

    Raises:
        BadRequest: It has more than `longest` characters.
    """
    if len(text) > longest:
        raise BadRequest(f"{what} is {len(text)} characters long; the limit is {longest}")
    return text


def require_within(what: str, value: float, smallest: float, largest: float, way_out: str = "") -> None:
    """Raise `BadRequest` for a value outside these bounds, or NaN.

    Raises:
        BadRequest: The message names the bounds, and ends with `way_out`: whose bounds they are, what to do.
    """
    if not smallest <= value <= largest:
        bounds = number(smallest) if smallest == largest else f"{number(smallest)} to {number(largest)}"
        raise BadRequest(f"{what} {number(value)} is not allowed; it must be {bounds}{way_out}")


def checked_or_default(model: str, what: str, value: N | None, default: N, bounds: tuple[N, N]) -> N:
    """Return the value after a check of the model's bounds, or the default if it is None.

    Raises:
        BadRequest: It is out of bounds.
    """
    if value is None:
        return default
    require_within(what, value, *bounds, f" for '{model}'. Omit {what} for its default, {number(default)}")
    return value


def resolve_seed(seed: int | None, count: int) -> int:
    """Return the seed of the first of `count` results, which use it and the numbers after it; drawn if it is None.

    Raises:
        BadRequest: A result would get a seed beyond the largest one, which nobody could ask for again.
    """
    largest = MAX_SEED - (count - 1)
    if seed is None:
        return secrets.randbelow(largest + 1)
    if not 0 <= seed <= largest:
        uses = f" with count {number(count)}, which uses {number(count)} seeds in a row" if count > 1 else ""
        raise BadRequest(
            f"seed {number(seed)} is not allowed{uses}; it must be 0 to {largest}. Omit seed for a random one"
        )
    return seed
