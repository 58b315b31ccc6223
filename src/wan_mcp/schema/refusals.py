"""What is wrong with a caller's parameters, in words: each with its place, what is allowed, and what was meant."""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wan_mcp.text import quoted, suggestion

__all__ = ["in_words"]

MOST_PROBLEMS = 5
"""Problems that a refusal describes; a caller who sends thousands of wrong values needs no thousands of sentences."""
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?\s*", re.IGNORECASE)
SYNONYMS = {
    "cfg": "guidance_scale",
    "cfg_scale": "guidance_scale",
    "duration": "duration_s",
    "frames": "num_frames",
    "multiplier": "scale",
    "n": "count",
    "num_images": "count",
    "num_inference_steps": "steps",
    "size": "resolution",
    "strength": "scale",
    "weight": "scale",
}
"""Other libraries' names of parameters, and ours."""


def in_words(error: ValidationError, known: Mapping[str, FieldInfo]) -> str:
    """Describe what is wrong with a caller's parameters; `known` are those that are allowed."""
    more = error.error_count() - MOST_PROBLEMS
    return "; ".join([*islice(_sentences(error, known), MOST_PROBLEMS), *([f"and {more} more"] if more > 0 else [])])


def _sentences(error: ValidationError, known: Mapping[str, FieldInfo]) -> Iterator[str]:
    for problem in error.errors(include_url=False, include_context=False):
        what = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            *outer, name = problem["loc"]
            where = f"{'.'.join(map(str, outer))}: " if outer else ""
            yield where + _unknown(str(name), _fields_at(outer, known))
            continue
        given = f", not {_shown(problem['input'])}" if problem["type"] != "missing" else ""
        message = problem["msg"].replace("tuple", "list")
        yield f"{what}: {message[0].lower()}{message[1:]}{given}"


def _shown(value: object) -> str:
    """Return a refused value as a refusal shows it; a number that was sent as a text is a number."""
    return quoted(value).strip("'") if isinstance(value, str) and NUMBER.fullmatch(value) else quoted(value)


def _fields_at(loc: Iterable[int | str], known: Mapping[str, FieldInfo]) -> Mapping[str, FieldInfo]:
    """Return the fields of the object at a place inside the parameters."""
    for part in loc:
        if isinstance(part, str) and part in known:
            inside = (each for each in get_args(known[part].annotation) if isinstance(each, type))
            known = next((each.model_fields for each in inside if issubclass(each, BaseModel)), {})
    return known


def _unknown(name: str, known: Iterable[str]) -> str:
    names, ours = list(known), SYNONYMS.get(name)
    return f"no parameter {quoted(name)}; {suggestion(ours if ours in names else name, names)}"
