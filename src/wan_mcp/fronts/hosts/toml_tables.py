"""Set or remove one table in a TOML text; every line outside it stays. The caller checks the result."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["with_table", "without_table"]

HEADER = re.compile(r"^[ \t]*\[\[?[ \t]*(?P<name>[^\[\]#\n]+?)[ \t]*\]\]?[ \t]*(#[^\n]*)?\r?$", re.MULTILINE)
BARE = re.compile(r"[A-Za-z0-9_-]+")


def with_table(text: str, path: Sequence[str], entry: dict[str, Any]) -> str:
    """Return the text with the table at `path` set to `entry`, at its old place or at the end.

    Raises:
        ValueError: The entry has a value that is not supported.
    """
    lines = "\n".join(_table(path, entry))
    span = _span(text, path)
    if span is not None:
        return text[: span[0]] + lines + text[span[1] :]
    above = text.rstrip()
    return f"{above}\n\n{lines}\n" if above else f"{lines}\n"


def without_table(text: str, path: Sequence[str]) -> str:
    """Return the text without the table at `path`; the same text if no header names it."""
    span = _span(text, path)
    if span is None:
        return text
    above, below = text[: span[0]].rstrip(), text[span[1] :].lstrip("\r\n")
    return above + ("\n\n" if above and below else "\n" if above else "") + below


def _span(text: str, path: Sequence[str]) -> tuple[int, int] | None:
    """Return where the table and those below it begin and end; comments above the next header are that one's."""
    headers = [(found.start(), _names(found["name"])) for found in HEADER.finditer(text)]
    own = [at for at, (_, names) in enumerate(headers) if names[: len(path)] == list(path)]
    if not own:
        return None
    end = headers[own[-1] + 1][0] if own[-1] + 1 < len(headers) else len(text)
    begin = headers[own[0]][0]
    kept = re.sub(r"(\s*^[ \t]*#[^\n]*$)*\s*\Z", "", text[begin:end], flags=re.MULTILINE)
    return begin, begin + len(kept)


def _names(header: str) -> list[str]:
    return [part.strip().strip("\"'") for part in header.split(".")]


def _table(path: Sequence[str], entry: dict[str, Any]) -> Iterator[str]:
    yield f"[{'.'.join(map(_key, path))}]"
    for key, value in entry.items():
        yield f"{_key(key)} = {_value(value)}"


def _key(name: str) -> str:
    return name if BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
    raise ValueError(f"it has a value that wan-mcp does not write: {value!r}")
