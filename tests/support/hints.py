"""The next steps that texts of tools name, as a model reads them: calls with their arguments."""

import re
from dataclasses import dataclass
from typing import Any

__all__ = ["Hint", "hints_in"]

CALL = re.compile(r"\b([a-z]+(?:_[a-z]+)+|remix)\(([^()]*)\)")
ARGUMENT = re.compile(r"([a-z_]+)=('[^']*'|…|[-\w.]+)")
OPEN = "…"


@dataclass(frozen=True)
class Hint:
    """A call that a text names."""

    tool: str
    arguments: dict[str, Any]
    open: tuple[str, ...]
    """Arguments that the reader has to think of."""


def hints_in(text: str) -> list[Hint]:
    """Return the calls in a text, in their order."""
    found = []
    for tool, inside in CALL.findall(text):
        given = dict(ARGUMENT.findall(inside))
        rest = re.sub(r"[\s,]", "", ARGUMENT.sub("", inside))
        assert rest == "", f"a hint that no model can read: {tool}({inside})"
        values = {name: _value(value) for name, value in given.items() if value != OPEN}
        found.append(Hint(tool, values, tuple(name for name, value in given.items() if value == OPEN)))
    return found


def _value(written: str) -> Any:
    if written.startswith("'"):
        return written[1:-1]
    constants = {"true": True, "false": False, "null": None}
    return constants[written] if written in constants else float(written) if "." in written else int(written)
