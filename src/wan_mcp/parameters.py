"""What is wrong with parameters, in words."""

from collections.abc import Iterable
from difflib import get_close_matches

from pydantic import ValidationError

__all__ = ["in_words"]

SHOWN = 60  # characters of a value or a name that was refused


def in_words(error: ValidationError, known: Iterable[str]) -> str:
    """Describe what is wrong with a caller's parameters; `known` are the names that are allowed."""
    return "; ".join(_sentences(error, known))


def _sentences(error: ValidationError, known: Iterable[str]) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_context=False):
        what = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            yield _unknown(what, known)
            continue
        given = f", not {str(problem['input'])[:SHOWN]!r}" if problem["type"] != "missing" else ""
        yield f"{what}: {problem['msg'][0].lower()}{problem['msg'][1:]}{given}"


def _unknown(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = get_close_matches(name, names, n=1)
    return f"no parameter '{name[:SHOWN]}'; " + (
        f"did you mean {near[0]}?" if near else f"there are: {', '.join(names)}"
    )
