"""JSON and TOML that may be damaged: whatever is wrong is a ValueError."""

import json

import pytest

from wan_mcp.parsing import parse_json, parse_toml

DEEP = 5000


@pytest.mark.parametrize(
    "text", ["", "{", "[" * DEEP, '{"a":' * DEEP, "1" * 5000, "\ud83d", b"\xff", b"\xff\xfe["], ids=range(8)
)
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["a", "a = " + "[" * DEEP, "a = " + "{b = " * DEEP, "a = " + "1" * 5000, "a = 2026-99-99"]
)
def test_what_is_no_toml_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_toml(text)


def test_what_is_whole_is_read() -> None:
    value = {"a": [1, 2.5, None, "ß"]}
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_toml("[a]\nb = 1") == {"a": {"b": 1}}
