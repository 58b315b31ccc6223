"""What HTTP clients send to /mcp that is no message, and what they get when a call takes long."""

import json
import os
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest

from tests.conftest import settings_for
from tests.fixtures.mcp_server import Pace
from tests.support.http_fronts import Running, running, site
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp.tools import QUICK_TOOLS
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

MODERN = "2026-07-28"
HEADERS = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
ERAS: dict[str, dict[str, str]] = {"legacy": {}, "modern": {"MCP-Protocol-Version": MODERN}}
META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One front for all of them."""
    settings = settings_for(tmp_path_factory.mktemp("entry") / "home").model_copy(update={"image_max_mb": 1})
    with running(settings) as front:
        yield front


@asynccontextmanager
async def web_of(front: Running) -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=front.url, timeout=PATIENCE_S, headers=HEADERS) as web:
        yield web


def call(tool: str, arguments: dict[str, Any], number: Any = 1) -> dict[str, Any]:
    return {
        "jsonrpc": "2.0",
        "id": number,
        "method": "tools/call",
        "params": {"name": tool, "arguments": arguments, "_meta": META},
    }


GOOD = json.dumps(call("get_job", {"job_id": "none"}, 7)).encode()


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("body", "status", "code", "number"),
    [
        (b"", 400, -32700, None),
        (b"hello", 400, -32700, None),
        (GOOD[:-1], 400, -32700, 7),
        (GOOD.replace(b"none", rb"\ud83d"), 400, -32700, 7),
        (GOOD.replace(b"none", b"\xff"), 400, -32700, 7),
        (b"[" + GOOD + b"]", 400, -32600, None),
        (b"[]", 400, -32600, None),
        (b"null", 400, -32600, None),
        (GOOD.replace(b'"id": 7', b'"id": null'), 400, -32600, None),
        (GOOD.replace(b'"id": 7', b'"id": 1.5'), 400, -32600, None),
        (GOOD.replace(b'"id": 7', b'"id": true'), 400, -32600, None),
        (GOOD.replace(b'"id": 7', b'"id": {}'), 400, -32600, None),
        (GOOD.replace(b'"id": 7, ', b""), 400, -32600, None),
        (GOOD.replace(b'"2.0"', b'"1.0"'), 400, -32600, 7),
        (GOOD.replace(b'"tools/call"', b"5"), 400, -32600, 7),
        (b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[]}', 400, -32600, 7),
        (
            b'{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"a":[' + b"{}," * 999_999 + b"{}]}}",
            413,
            -32600,
            7,
        ),
        (b"{}," * 1_000_000, 413, -32600, None),
        (b"x" * 4_000_000, 413, -32600, None),
    ],
)
async def test_what_is_no_message_is_refused_in_words(
    front: Running, era: str, body: bytes, status: int, code: int, number: int | None
) -> None:
    async with web_of(front) as web:
        answer = await web.post("/mcp", content=body, headers=ERAS[era])
        after = await web.get("/healthz")
    assert (answer.status_code, after.status_code) == (status, 200)
    assert (answer.json()["id"], answer.json()["error"]["code"]) == (number, code)
    assert "pydantic" not in answer.text


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("headers", [{}, {"Last-Event-ID": "1"}, {"Mcp-Session-Id": "x"}])
async def test_only_messages_are_posted(front: Running, era: str, method: str, headers: dict[str, str]) -> None:
    async with web_of(front) as web:
        answer = await web.request(method, "/mcp", headers={**ERAS[era], **headers})
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert method == "HEAD" or "POST each message" in answer.json()["error"]["message"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"Content-Type": "text/plain"}, 415, "application/json, not 'text/plain'"),
        ({"Content-Type": ""}, 415, "application/json"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415, "application/json"),
        ({"Content-Encoding": "gzip"}, 415, "uncompressed"),
        ({"Accept": "application/json"}, 406, "text/event-stream"),
        ({"Accept": "text/html"}, 406, "application/json"),
        ({"Content-Type": "APPLICATION/JSON; charset=UTF-8"}, 200, ""),
        ({"Accept": "*/*"}, 200, ""),
        ({"Accept": "application/*;q=0.5, text/*"}, 200, ""),
    ],
)
async def test_headers_that_do_not_fit_are_named(
    front: Running, era: str, headers: dict[str, str], status: int, says: str
) -> None:
    message = {**call("get_job", {"job_id": "none"})}
    modern = {"Mcp-Method": "tools/call", "Mcp-Name": "get_job"} if era == "modern" else {}
    if era == "legacy":
        del message["params"]["_meta"]
    async with web_of(front) as web:
        answer = await web.post("/mcp", content=json.dumps(message), headers={**ERAS[era], **modern, **headers})
    assert answer.status_code == status, answer.text
    assert says in answer.text


async def test_other_addresses_say_what_there_is(front: Running) -> None:
    async with web_of(front) as web:
        nothing, wrong = await web.get("/nothing"), await web.post("/healthz")
        media = await web.get("/media/videos/nothing.mp4")
    assert (nothing.status_code, media.status_code, wrong.status_code) == (404, 404, 405)
    assert "/media/videos/ID.mp4" in nothing.text
    assert "allowed: GET" in wrong.text.replace("HEAD, ", "")


def test_a_client_that_hangs_up_in_the_middle_leaves_no_error_in_the_log(front: Running) -> None:
    head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Type: application/json\r\n"
    before = front.log
    for sent in (b"Content-Length: 100\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"):
        with front.connect() as connection:
            connection.sendall(head + sent)
    for number in range(10):
        httpx2.get(f"{front.url}/healthz", timeout=PATIENCE_S)
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/list"}
        assert httpx2.post(f"{front.url}/mcp", json=message, headers=HEADERS, timeout=PATIENCE_S).status_code == 200
    new = front.log.removeprefix(before)
    assert [word for word in ("Traceback", "ERROR", "Terminating session") if word in new] == []


async def test_noise_in_bodies_never_costs_the_next_request(front: Running) -> None:
    """Longer with FUZZ_BODIES=100000 in the environment."""
    dice = random.Random(11)
    async with web_of(front) as web:
        for number in range(int(os.environ.get("FUZZ_BODIES", "300"))):
            noise = bytearray(GOOD)
            for _ in range(dice.randint(1, 9)):
                at = dice.randrange(len(noise))
                noise[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 3))
            answer = await web.post("/mcp", content=bytes(noise), headers=ERAS[dice.choice(list(ERAS))])
            assert answer.status_code in (200, 202, 400, 404), (number, bytes(noise))
        assert (await web.get("/healthz")).status_code == 200
    assert "Traceback" not in front.log


@pytest.mark.parametrize("era", ERAS)
async def test_headers_come_while_a_call_waits_also_without_a_progress_token(
    settings: Settings, pace: Pace, era: str
) -> None:
    headers = ERAS[era] | ({"Mcp-Method": "tools/call", "Mcp-Name": "generate_image"} if era == "modern" else {})
    message = call("generate_image", {"prompt": "a star", "steps": 2})
    with anyio.fail_after(PATIENCE_S):
        async with (
            site(settings, **HEADERS) as http,
            http.web.stream("POST", "/mcp", json=message, headers=headers) as it,
        ):
            assert it.status_code == 200  # while the engine may do nothing yet
            assert it.headers["content-type"].startswith("text/event-stream")
            pace.allow(100)
            events = [line async for line in it.aiter_lines() if line.startswith("data: ")]
    [result] = [json.loads(event.removeprefix("data: ")) for event in events]
    assert (result["id"], result["result"]["structuredContent"]["status"]) == (1, "succeeded")


async def test_a_quick_answer_keeps_its_status_and_type(front: Running) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "no/such", "params": {"_meta": META}}
    async with web_of(front) as web:
        answer = await web.post("/mcp", json=message, headers={**ERAS["modern"], "Mcp-Method": "no/such"})
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/json")


async def test_a_result_that_has_not_changed_is_not_sent_again(shared_settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(shared_settings) as http, http.client() as client:
            made = await client.call_tool("generate_image", {"prompt": "a star", "steps": 2})
            assert made.structured_content is not None
            address = made.structured_content["artifacts"][0]["uri"].replace("wan://", "/media/")
            whole = await http.web.get(address)
            tag, date = whole.headers["etag"], whole.headers["last-modified"]
            same: list[dict[str, str]] = [
                {"If-None-Match": tag},
                {"If-None-Match": f'"other", W/{tag}'},
                {"If-None-Match": "*"},
                {"If-Modified-Since": date},
                {"If-None-Match": tag, "If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
                {"If-None-Match": tag, "Range": "bytes=0-3"},
            ]
            changed: list[dict[str, str]] = [
                {"If-None-Match": '"other"'},
                {"If-None-Match": '"other"', "If-Modified-Since": date},
                {"If-Modified-Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
                {"If-Modified-Since": "yesterday"},
            ]
            unchanged = [await http.web.request(how, address, headers=h) for h in same for how in ("GET", "HEAD")]
            sent = [await http.web.get(address, headers=headers) for headers in changed]
            old = await http.web.get(address, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert {(answer.status_code, answer.content, answer.headers["etag"]) for answer in unchanged} == {(304, b"", tag)}
    assert [answer.status_code for answer in sent] == [200] * 4
    assert (old.status_code, old.content) == (200, whole.content)


PREFLIGHT = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,mcp-method"}


@pytest.mark.parametrize("path", ["/mcp", "/media/images/x.png", "/healthz"])
@pytest.mark.parametrize("origin", ["https://chat.example.org", "http://localhost:6274", "http://127.0.0.1"])
async def test_pages_of_trusted_origins_may_use_the_server(settings: Settings, path: str, origin: str) -> None:
    guarded = settings.model_copy(update={"http_token": "secret", "http_hosts": "chat.example.org"})
    async with site(guarded) as http:
        asked = await http.web.options(path, headers={"Origin": origin, **PREFLIGHT})
        without = await http.web.get(path, headers={"Origin": origin})
        answer = await http.web.get(path, headers={"Origin": origin, "Authorization": "Bearer secret"})
    assert asked.status_code == 200
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "mcp-method" in asked.headers["access-control-allow-headers"]
    assert (without.status_code, answer.status_code != 401) == (401, True)
    for each in (asked, without, answer):
        assert each.headers["access-control-allow-origin"] == origin
        assert "Origin" in each.headers["vary"]
    exposed = answer.headers["access-control-expose-headers"]
    assert {"Mcp-Session-Id", "MCP-Protocol-Version"} <= set(exposed.split(", "))


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://localhost.evil.example", "file://"])
async def test_other_pages_learn_nothing(settings: Settings, origin: str) -> None:
    async with site(settings) as http:
        answers = [
            await http.web.request(method, path, headers={"Origin": origin, **more})
            for method, more in (("OPTIONS", PREFLIGHT), ("POST", {}), ("GET", {}))
            for path in ("/mcp", "/media/images/x.png")
        ]
    assert {answer.status_code for answer in answers} == {403}
    assert not any(name.startswith("access-control") for answer in answers for name in answer.headers)


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("tool", QUICK_TOOLS)
async def test_a_quick_tool_answers_without_a_stream_unless_it_is_asked_for_progress(
    front: Running, era: str, tool: str
) -> None:
    texts = []
    async with web_of(front) as web:
        for progress in ({}, {"progressToken": 0}):
            message = call(tool, {})
            message["params"]["_meta"] = META | progress if era == "modern" else progress
            headers = ERAS[era] | ({"Mcp-Method": "tools/call", "Mcp-Name": tool} if era == "modern" else {})
            answer = await web.post("/mcp", json=message, headers=headers)
            event = answer.text.partition("data: ")[2] or answer.text
            assert json.loads(event)["result"]["isError"] is (tool in ("keep_job", "delete_job"))  # without an id
            texts.append(answer.text)
        listed = (await web.post("/mcp", json={"jsonrpc": "2.0", "id": 1, "method": "tools/list"})).text
    assert texts[0].startswith(("{", ": "))  # on a slow machine, its headers were sent before the answer was there
    assert era == "modern" or not texts[1].startswith("{")
    tools = json.loads(listed.partition("data: ")[2])["result"]["tools"]
    assert [
        each["name"] for each in tools if each["name"] == tool and "wait_s" not in each["inputSchema"]["properties"]
    ]
