"""One member of a JSON text changes, and every other character stays."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wan_mcp.fronts.hosts.json_members import is_strict, parse, with_member, without_member

ENTRY = {"command": "/bin/wan-mcp", "args": ["stdio"]}
PATH = ("mcpServers", "wan")
TEXTS = {
    "empty": "{}",
    "empty, spaced": "{\n}\n",
    "only a comment": "{\n  // nothing yet\n}\n",
    "another server": '{\n  "mcpServers": {\n    "other": {"url": "http://x"}\n  }\n}\n',
    "comments": '// mine\n{\n\t"mcpServers": {\n\t\t// the first\n\t\t"other": {} // kept\n\t},\n\t"a": 1 /* end */}\n',
    "trailing commas": '{\n    "mcpServers": {\n        "other": {},\n    },\n    "b": [1, 2,],\n}\n',
    "one line": '{"mcpServers": {"other": {"args": []}}, "b": 2}',
    "minified": '{"a":{"b":[{}]},"mcpServers":{}}',
    "windows lines": '{\r\n  "a": true,\r\n  "mcpServers": {\r\n    "other": null\r\n  }\r\n}\r\n',
    "braces in strings": '{"a": "}\\"{", "mcpServers": {"other": "// no comment"}}',
    "names in escapes": '{"\\u006dcpServers": {"other": 1}}',
    "comment after the last": '{\n  "a": 1, // one\n  "b": 2 // two\n  // three\n}\n',
    "other letters": '{\n  "größe": "日本"\n}\n',
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_a_member_is_added_and_taken_out_again(text: str) -> None:
    changed = with_member(text, PATH, ENTRY)
    before = parse(text)
    assert parse(changed) == before | {"mcpServers": before.get("mcpServers", {}) | {"wan": ENTRY}}
    for line in text.splitlines():
        for part in ("// mine", "// the first", "// kept", "/* end */", "// one", "// two", "// three"):
            assert (part in line) <= (part in changed)
    assert ("\r\n" in text) == ("\r\n" in changed)
    assert is_strict(text) == is_strict(changed)
    again = without_member(changed, PATH)
    assert parse(again) == before | {"mcpServers": before.get("mcpServers", {})}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_what_was_there_stays_to_the_letter(text: str) -> None:
    changed = with_member(text, PATH, ENTRY)
    position = 0
    for character in text:  # the old text is what is left when something is taken out of the new one
        position = changed.index(character, position) + 1


def test_a_new_member_is_indented_as_the_others() -> None:
    assert with_member('{\n    "mcpServers": {\n        "other": {}\n    }\n}\n', PATH, {"args": []}) == (
        '{\n    "mcpServers": {\n        "other": {},\n        "wan": {\n            "args": []\n        }\n    }\n}\n'
    )
    assert with_member("{}\n", ("wan",), 1) == '{\n  "wan": 1\n}\n'
    assert with_member('{\n\t"a": 1\n}', ("wan",), {"b": 2}) == '{\n\t"a": 1,\n\t"wan": {\n\t\t"b": 2\n\t}\n}'


def test_a_member_is_replaced_in_its_place() -> None:
    text = '{\n  "a": 1, // first\n  "wan": {"old": true}, // ours\n  "b": 2\n}\n'
    assert with_member(text, ("wan",), 3) == text.replace('{"old": true}', "3")


def test_of_two_members_with_one_name_the_last_counts_as_for_all_readers() -> None:
    changed = with_member('{"a": {"x": 1}, "a": {"y": 2}}', ("a", "wan"), 3)
    assert json.loads(changed) == {"a": {"y": 2, "wan": 3}}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{\n  "a": 1,\n  "wan": 2\n}\n', '{\n  "a": 1\n}\n'),
        ('{\n  "wan": 2,\n  "a": 1\n}\n', '{\n  "a": 1\n}\n'),
        ('{\n  "a": 1,\n  "wan": 2,\n  "b": 3\n}\n', '{\n  "a": 1,\n  "b": 3\n}\n'),
        ('{"a": 1, "wan": 2}', '{"a": 1 }'),
        ('{"wan": 2, "a": 1}', '{"a": 1}'),
        ('{"wan": 2}', "{}"),
        ('{\n  // note\n  "wan": 2, // two\n  "a": 1,\n}\n', '{\n  // note\n  // two\n  "a": 1,\n}\n'),
        ('{"a": 1}', '{"a": 1}'),
    ],
)
def test_a_member_goes_with_its_comma(text: str, left: str) -> None:
    changed = without_member(text, ("wan",))
    assert parse(changed) == parse(left)
    assert changed.split() == left.split()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: a value is missing"),
        ('{\n  "a": 1\n  "b": 2\n}', "line 3: expected , or }"),
        ('{"a" 1}', "expected :"),
        ("{a: 1}", "line 1: this is not JSON"),
        ('{"a": .5}', "this is not JSON"),
        ('{"a": 01}', "not a value"),
        ('{"a": 1} {}', "something follows"),
        ('{"a": /* 1}', "this is not JSON"),
        ('{"a": "\n"}', "this is not JSON"),
        ("{,}", "a name in double quotes is missing"),
        ("[" * 5000, "nested too deeply"),
        ('{"a": 1', "expected , or }"),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse(text)


@pytest.mark.parametrize("text", ["[]", "3", '{"mcpServers": []}', '{"mcpServers": null}'])
def test_a_member_of_something_else_than_an_object_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an object"):
        with_member(text, PATH, ENTRY)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=4), VALUES, max_size=4), VALUES, st.sampled_from([None, 2, "\t"]))
def test_any_document_says_the_same_with_one_member_more(document: dict[str, Any], value: Any, indent: Any) -> None:
    text = json.dumps(document, indent=indent)
    changed = with_member(text, ("wan",), value)
    assert json.loads(changed) == parse(changed) == document | {"wan": value}
    assert json.loads(without_member(changed, ("wan",))) == {k: v for k, v in document.items() if k != "wan"}
