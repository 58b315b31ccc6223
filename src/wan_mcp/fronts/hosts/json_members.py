"""Set or remove one member in a JSON text, comments and trailing commas allowed; every other character stays."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

__all__ = ["is_strict", "parse", "with_member", "without_member"]

TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|//[^\n]*|/\*.*?\*/)
      | (?P<mark>[{}\[\]:,])
      | (?P<string>"(?:[^"\\\x00-\x1f]|\\.)*")
      | (?P<word>-?[0-9][0-9.eE+-]*|true|false|null)""",
    re.DOTALL | re.VERBOSE,
)
DEEPEST = 100
"""Levels of nesting that are read."""
INDENT = "  "


@dataclass
class _Node:
    """A value and where it stands in the text."""

    start: int
    end: int = 0
    value: Any = None
    members: "list[_Member] | None" = None
    """Of an object, in the order of the text."""


@dataclass
class _Member:
    start: int
    key: str
    node: _Node
    comma: int | None = field(default=None)
    """Where the comma after it stands."""


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self.strict = not any(kind == "space" and not token.isspace() for kind, token, _ in self._split())

    def document(self) -> _Node:
        node = self._value(0)
        if self._peek()[0] != "end":
            self._fail("something follows the end of the document")
        return node

    def _split(self) -> Any:
        at = 0
        while at < len(self._text):
            found = TOKEN.match(self._text, at)
            if found is None:
                self._fail("this is not JSON", at)
            yield found.lastgroup, found[0], at
            at = found.end()

    def _peek(self) -> tuple[str, str, int]:
        while self._at < len(self._tokens) and self._tokens[self._at][0] == "space":
            self._at += 1
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "", len(self._text))

    def _take(self, *marks: str) -> tuple[str, str, int]:
        token = self._peek()
        if marks and token[1] not in marks:
            self._fail(f"expected {' or '.join(marks)}", token[2])
        self._at += 1
        return token

    def _value(self, depth: int) -> _Node:
        kind, token, start = self._peek()
        if depth > DEEPEST:
            self._fail("the values are nested too deeply", start)
        if token == "{":
            return self._object(depth)
        if token == "[":
            return self._array(depth)
        if kind not in ("string", "word"):
            self._fail("a value is missing", start)
        self._at += 1
        return _Node(start, start + len(token), self._scalar(token, start))

    def _scalar(self, token: str, start: int) -> Any:
        try:
            return json.loads(token)
        except ValueError:
            self._fail("this is not a value of JSON", start)

    def _object(self, depth: int) -> _Node:
        node = _Node(self._take("{")[2], members=[])
        members: list[_Member] = []
        while self._peek()[1] != "}":
            kind, token, start = self._take()
            if kind != "string":
                self._fail("a name in double quotes is missing", start)
            self._take(":")
            members.append(_Member(start, self._scalar(token, start), self._value(depth + 1)))
            if self._peek()[1] == "}":
                break
            members[-1].comma = self._take(",", "}")[2]
            self.strict = self.strict and self._peek()[1] != "}"
        node.end = self._take("}")[2] + 1
        node.members, node.value = members, {member.key: member.node.value for member in members}
        return node

    def _array(self, depth: int) -> _Node:
        node, values = _Node(self._take("[")[2]), []
        while self._peek()[1] != "]":
            values.append(self._value(depth + 1).value)
            if self._peek()[1] == "]":
                break
            self._take(",", "]")
            self.strict = self.strict and self._peek()[1] != "]"
        node.end, node.value = self._take("]")[2] + 1, values
        return node

    def _fail(self, why: str, at: int | None = None) -> NoReturn:
        place = len(self._text) if at is None else at
        raise ValueError(f"line {self._text.count(chr(10), 0, place) + 1}: {why}")


def parse(text: str) -> Any:
    """Return the value of a JSON text that may have comments and trailing commas.

    Raises:
        ValueError: It is not such a text; the message names the line.
    """
    return _Reader(text).document().value


def is_strict(text: str) -> bool:
    """Check whether a text that `parse` reads has neither comments nor trailing commas."""
    reader = _Reader(text)
    reader.document()
    return reader.strict


def with_member(text: str, path: Sequence[str], value: Any) -> str:
    """Return the text with the member at `path` set to `value`; missing objects above it are made.

    Raises:
        ValueError: The text cannot be read, or something above the member is not an object.
    """
    node = _Reader(text).document()
    for depth, key in enumerate(path):
        if node.members is None:
            raise ValueError(f"{_words(path[:depth])} is not an object")
        member = _last(node, key)
        if member is None:
            for missing in reversed(path[depth + 1 :]):
                value = {missing: value}
            return _inserted(text, node, key, value)
        node = member.node
    indent = _line_indent(text, node.start)
    return text[: node.start] + _written(text, value, indent) + text[node.end :]


def without_member(text: str, path: Sequence[str]) -> str:
    """Return the text without the member at `path`; the same text if there is none.

    Raises:
        ValueError: The text cannot be read.
    """
    node = _Reader(text).document()
    for key in path[:-1]:
        member = _last(node, key)
        if member is None:
            return text
        node = member.node
    member = _last(node, path[-1])
    if member is None or node.members is None:
        return text
    begin, end = member.start, member.node.end
    if member.comma is not None:
        end = member.comma + 1
    line = text.rfind("\n", 0, begin) + 1
    rest = re.compile(r"[ \t]*\r?\n").match(text, end)
    if not text[line:begin].strip(" \t") and rest is not None:  # it has its lines for itself
        begin, end = line, rest.end()
    elif member.comma is not None:
        end += len(text[end:]) - len(text[end:].lstrip(" \t"))
    at = node.members.index(member)
    if member.comma is None and at > 0 and (comma := node.members[at - 1].comma) is not None:
        return text[:comma] + text[comma + 1 : begin] + text[end:]
    return text[:begin] + text[end:]


def _last(node: _Node, key: str) -> _Member | None:
    """Return the member that readers of JSON see: of several with one name the last."""
    return next((member for member in reversed(node.members or []) if member.key == key), None)


def _inserted(text: str, node: _Node, key: str, value: Any) -> str:
    members, close = node.members or [], node.end - 1
    inside = text[node.start + 1 : close]
    named = f"{json.dumps(key, ensure_ascii=False)}: "
    if members and "\n" not in inside:
        comma = "" if members[-1].comma is not None else ","
        at = node.start + 1 + len(inside.rstrip())
        return f"{text[:at]}{comma} {named}{json.dumps(value, ensure_ascii=False)}{text[at:]}"
    outer = _line_indent(text, node.start)
    indent = _line_indent(text, members[-1].start) if members else outer + _unit(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    body = text[: node.start + 1] + inside.rstrip()
    if members and members[-1].comma is None:
        end = members[-1].node.end
        body = body[:end] + "," + body[end:]
    return f"{body}{newline}{indent}{named}{_written(text, value, indent)}{newline}{outer}{text[close:]}"


def _written(text: str, value: Any, indent: str) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = json.dumps(value, ensure_ascii=False, indent=_unit(text)).split("\n")
    return f"{newline}{indent}".join(lines)


def _line_indent(text: str, at: int) -> str:
    line = text.rfind("\n", 0, at) + 1
    return re.compile(r"[ \t]*").match(text, line)[0]  # type: ignore[index]


def _unit(text: str) -> str:
    """Return what one level of the text is indented by."""
    found = re.search(r"^([ \t]+)\S", text, re.MULTILINE)
    return found[1] if found else INDENT


def _words(path: Sequence[str]) -> str:
    return f"'{'.'.join(path)}'" if path else "the document"
