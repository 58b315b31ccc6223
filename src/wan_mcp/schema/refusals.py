"""What is wrong with a caller's values, in words: each with its place, what is allowed, and what was meant.

Tools, commands, HTTP routes, settings and manifests are all checked by pydantic; what it found is said here, and in
these words only.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from wan_mcp.text import number, quoted, suggestion

__all__ = ["in_words", "phrase"]

MAX_PROBLEMS = 5
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
WHOLE_NUMBER, TRUE_OR_FALSE, TEXT, LIST, OBJECT = (
    "must be a whole number",
    "must be true or false",
    "must be a text",
    "must be a list",
    "must be an object",
)
PHRASES = {
    "missing": "is required",
    "int_type": WHOLE_NUMBER,
    "int_parsing": WHOLE_NUMBER,
    "int_from_float": WHOLE_NUMBER,
    "int_parsing_size": "must be a number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": TRUE_OR_FALSE,
    "bool_parsing": TRUE_OR_FALSE,
    "string_type": TEXT,
    "string_unicode": TEXT,
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "greater_than_equal": "must be greater than or equal to {ge}",
    "greater_than": "must be greater than {gt}",
    "less_than_equal": "must be less than or equal to {le}",
    "less_than": "must be less than {lt}",
    "enum": "must be {expected}",
    "literal_error": "must be {expected}",
    "tuple_type": LIST,
    "list_type": LIST,
    "set_type": LIST,
    "dict_type": OBJECT,
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "dataclass_type": OBJECT,
    "extra_forbidden": "is not a known name",
}
"""What a value must be, by pydantic's name of the error, with the values that pydantic puts with it."""


def in_words(error: ValidationError, known: Mapping[str, FieldInfo]) -> str:
    """Describe what is wrong with a caller's parameters; `known` are those that are allowed."""
    more = error.error_count() - MAX_PROBLEMS
    return "; ".join([*islice(_sentences(error, known), MAX_PROBLEMS), *([f"and {more} more"] if more > 0 else [])])


def _sentences(error: ValidationError, known: Mapping[str, FieldInfo]) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        what = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            *outer, name = problem["loc"]
            where = f"{'.'.join(map(str, outer))}: " if outer else ""
            yield where + _unknown(str(name), _fields_at(outer, known))
            continue
        given = f", not {_shown(problem['input'])}" if problem["type"] != "missing" else ""
        inside = list(_fields_at(problem["loc"], known)) if problem["type"] == "model_type" else []
        yield f"{what}: {phrase(problem)}{f' with {_listed(inside)}' if inside else ''}{given}"


def phrase(problem: Mapping[str, Any]) -> str:
    """Return what a refused value must be, such as `must be a whole number`.

    Args:
        problem: One of the `errors()` of a `ValidationError`. Errors that this package raises itself keep their words.
    """
    words, values = PHRASES.get(problem["type"]), problem.get("ctx", {})
    if words is not None:
        return words.format_map({key: _value_in(value) for key, value in values.items()})
    return str(problem["msg"]).removeprefix("Value error, ")


def _value_in(value: object) -> str:
    return number(value) if isinstance(value, int | float) else str(value)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


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
