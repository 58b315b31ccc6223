"""Lines that are no message on stdio: each is answered and logged once, and costs nothing else."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import settings_for
from tests.support.patience import PATIENCE_S
from tests.support.stdio_fronts import Pipe, front, piped

PARSE_ERROR, INVALID_REQUEST = -32700, -32600
IMAGE_MAX_MB = 0.1  # so that a line that is too long is small enough for a test


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipe]:
    """One front that hears all of them."""
    folder = tmp_path_factory.mktemp("stdio")
    settings = settings_for(folder / "home").model_copy(update={"image_max_mb": IMAGE_MAX_MB})
    with piped(front(settings), folder / "log") as pipe:
        pipe.initialize()
        yield pipe
        assert pipe.hang_up(PATIENCE_S) == (b"", 0)


def request(**changes: Any) -> dict[str, Any]:
    """A call that would be served, but for `changes`."""
    call = {"name": "get_job", "arguments": {"job_id": "none"}}
    message = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": call} | changes
    return {name: value for name, value in message.items() if value is not ...}


def line(**changes: Any) -> bytes:
    return json.dumps(request(**changes)).encode()


def prompt(text: bytes, tail: bytes = b"") -> bytes:
    """A call whose prompt is written by hand."""
    call = b'{"jsonrpc":"2.0","id":"a-1","method":"tools/call","params":{"name":"generate_image","arguments":'
    return call + b'{"prompt":"' + text + b'"}}' + tail + b"}"


NOT_JSON = {
    "words": (b"hello there", None),
    "cut short": (b'{"jsonrpc":"2.0","id":7,"method":"tools/li', 7),
    "cut in its id": (b'{"jsonrpc":"2.0","id":7', None),
    "an extra comma": (b'{"jsonrpc":"2.0","method":"ping","id":7,}', 7),
    "two on one line": (b'{"jsonrpc":"2.0","id":7,"method":"ping"} {}', 7),
    "single quotes": (b"{'jsonrpc':'2.0','id':7,'method':'ping'}", None),
    "a raw control character": (prompt(b"a \x01 b"), "a-1"),
    "half a surrogate pair": (prompt(rb"a red circle \ud83d"), "a-1"),
    "the other half": (prompt(rb"\ude00 a red circle"), "a-1"),
    "the halves exchanged": (prompt(rb"\ude00\ud83d"), "a-1"),
    "half a pair in a name": (line().replace(b"job_id", rb"job\ud800id"), 7),
    "half a pair deep inside": (line(params={"a": [{"b": ["\ud83d"]}]}), 7),
    "half a pair as the method": (line(method="\udfff"), 7),
    "half a pair as the id": (line(id="\ud83d"), None),
    "an id after half a pair": (b'{"method":"\\ud83d","params":{"id":3},"jsonrpc":"2.0","id":7}', 7),
    "bytes that are not UTF-8": (prompt(b"caf\xe9"), "a-1"),
    "a byte-order mark": (b"\xef\xbb\xbf" + line(), 7),
    "UTF-16": (line().decode().encode("utf-16-le"), None),
    "deep nesting": (line(params={"a": "?"}).replace(b'"?"', b"[" * 5_000 + b"]" * 5_000), 7),
    "a number without end": (line(params={"a": "?"}).replace(b'"?"', b"9" * 5_000), 7),
    "an id without end": (line().replace(b"7", b"9" * 5_000), None),
}
NOT_A_MESSAGE = {
    "null": (b"null", None),
    "a number": (b"7", None),
    "a text": (b'"ping"', None),
    "an empty object": (b"{}", None),
    "an empty batch": (b"[]", None),
    "a batch": (json.dumps([request(), request(id=8)]).encode(), None),
    "another version": (line(jsonrpc="1.0"), 7),
    "no version": (line(jsonrpc=...), 7),
    "a version that is a number": (line(jsonrpc=2.0), 7),
    "no id": (line(id=...), None),
    "an id that is null": (line(id=None), None),
    "an id that is a fraction": (line(id=1.5), None),
    "an id that is true": (line(id=True), None),
    "an id that is a list": (line(id=[7]), None),
    "an id that is an object": (line(id={}), None),
    "no method": (line(method=...), 7),
    "a method that is a number": (line(method=5), 7),
    "a method that is null": (line(method=None), 7),
    "params that are a list": (line(params=["a"]), 7),
    "params that are a text": (line(params="a"), 7),
    "a result that is a text": (b'{"jsonrpc":"2.0","id":7,"result":"well"}', 7),
    "an error without words": (b'{"jsonrpc":"2.0","id":7,"error":{"code":1}}', 7),
    "too many values": (line(params={"a": [[]] * 60_000}), 7),
    "too long": (line(params={"a": "x" * 1_400_000}), 7),
    "too long with the id at its end": (b'{"params":{"a":"' + b"x" * 1_400_000 + b'"},"jsonrpc":"2.0","id":7}', 7),
}
CASES = [(PARSE_ERROR, *case) for case in NOT_JSON.values()] + [
    (INVALID_REQUEST, *case) for case in NOT_A_MESSAGE.values()
]


@pytest.mark.parametrize(("code", "sent", "answered"), CASES, ids=[*NOT_JSON, *NOT_A_MESSAGE])
def test_it_is_refused_with_the_id_that_it_has_and_logged_once(
    pipe: Pipe, code: int, sent: bytes, answered: int | str | None
) -> None:
    before = pipe.log().count("refused a message")
    pipe.write(sent + b"\n")
    answer = pipe.receive()
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", answered, code)
    assert answer["error"]["message"].startswith(("Parse error: ", "Invalid Request: "))
    assert pipe.log().count("refused a message") == before + 1
    pipe.send(id="next", method="ping")
    assert pipe.receive() == {"jsonrpc": "2.0", "id": "next", "result": {}}


def test_blank_lines_and_windows_line_ends_are_no_messages(pipe: Pipe) -> None:
    before = pipe.log()
    pipe.write(b"\n\r\n   \n\t\n" + line(id=21, method="ping", params=...) + b"\r\n")
    pipe.write(b"  " + line(id="22", method="ping", params={}) + b"  \r\n")
    assert [pipe.receive()["id"], pipe.receive()["id"]] == [21, "22"]
    assert pipe.log() == before


def test_letters_of_all_planes_arrive_escaped_or_not(pipe: Pipe) -> None:
    for text in ("\\ud83d\\ude00", "😀", "é", "\\u0000"):
        pipe.write(line(params={"name": "get_job", "arguments": {"job_id": "?"}}).replace(b"?", text.encode()) + b"\n")
        answer = pipe.receive()
        assert (answer["id"], answer["result"]["isError"]) == (7, True)  # there is no such job
