"""What stands between HTTP clients and the SDK's endpoint: refusals in words, whole messages, early headers.

This is the one place for what SDK 2.3 does not do for a stateless server:

- It answers 500 to `GET` with `Last-Event-ID`, and holds a silent stream open for every other `GET`.
- It accepts a request whose id is null without an answer, and answers a batch in pydantic's words.
- It compares media types with their case, and answers 406 without words.
- It logs a traceback when a client hangs up in the middle of a body, and parses whatever fits the size limit.
- It sends no headers for 15 s if a call of the 2026-07-28 protocol has no progress token. Proxies take that for a
  server that does not work.
"""

import asyncio
import logging
from dataclasses import dataclass

from mcp.types import INVALID_REQUEST
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.fronts.mcp.messages import Refusal, read_message

__all__ = ["ENDPOINT", "HttpEntry"]

log = logging.getLogger(__name__)

ENDPOINT = "/mcp"
HEADERS_AFTER_S = 0.3  # an answer that comes sooner has its own status
BODIES_IN_MEMORY = 8  # of the largest size, in all requests together
JSON_TYPE, STREAM_TYPE = "application/json", "text/event-stream"
STREAM_HEADERS = [
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class HttpEntry:
    """A middleware for requests to /mcp; it passes others on."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self._app = app
        self._max_body_bytes = max_body_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or scope["path"].rstrip("/") != ENDPOINT:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = _wrong_method(scope["method"]) or _wrong_headers(headers)
        if refusal is not None:
            await _refuse(scope, refusal, receive, send)
            return
        held = _Held()
        try:
            body = await self._read(headers, receive, held)
            if isinstance(body, Response):
                await _refuse(scope, body, receive, send)
            elif body is not None:
                await self._serve(scope, body, receive, send)
        finally:
            self._held_bytes -= held.bytes

    async def _read(self, headers: Headers, receive: Receive, held: "_Held") -> bytes | Response | None:
        """Return the body of a request, or the refusal of it, or None if the client hung up."""
        most = self._max_body_bytes
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > most:
            return _too_long(most)
        chunks: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk, more = message.get("body", b""), message.get("more_body", False)
            chunks.append(chunk)
            held.bytes += len(chunk)
            self._held_bytes += len(chunk)
            if held.bytes > most:
                return _too_long(most)
            if self._held_bytes > BODIES_IN_MEMORY * most:
                words = "the server holds too many large requests; try again in a moment"
                return _error(503, Refusal(INVALID_REQUEST, words), {"Retry-After": "5"})
        return b"".join(chunks)

    async def _serve(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        message = read_message(body)
        if isinstance(message, Refusal):
            await _refuse(scope, _error(413 if message.too_large else 400, message), receive, send)
        else:
            await self._pass_on(scope, body, receive, send)

    async def _pass_on(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        """Let the SDK answer a readable message."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["content-type"] = JSON_TYPE
        unread: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        answer = _Answer(send)
        try:
            await self._app({**scope, "headers": headers.raw}, replay, answer.send)
        finally:
            answer.end()


@dataclass
class _Held:
    """How much of one request is in memory."""

    bytes: int = 0


class _Answer:
    """An answer whose headers are sent after a while even if the SDK has not decided on any.

    It is a stream of events then, and a JSON answer that comes later becomes its only event. The SDK does the same
    after 15 s. Only an answer that takes long is changed: clients of this endpoint accept both.
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._early: asyncio.Task[None] | None = None
        self._wrapped = False  # whether what comes is JSON, to be sent as an event
        # Cheaper than a task for each request, of which next to none takes so long.
        self._timer = asyncio.get_running_loop().call_later(HEADERS_AFTER_S, self._begin)

    def _begin(self) -> None:
        self._early = asyncio.create_task(self._send_headers())

    async def _send_headers(self) -> None:
        await self._send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        await self._send({"type": "http.response.body", "body": b": \r\n\r\n", "more_body": True})

    def end(self) -> None:
        """Begin nothing any more."""
        self._timer.cancel()

    async def send(self, message: Message) -> None:
        """Send a part of the SDK's answer."""
        self.end()
        if self._early is not None:
            await self._early
            if message["type"] == "http.response.start":
                self._wrapped = Headers(raw=message["headers"]).get("content-type", "").startswith(JSON_TYPE)
                return
            if self._wrapped and message.get("body"):
                message = {**message, "body": b"event: message\r\ndata: " + message["body"] + b"\r\n\r\n"}
        await self._send(message)


def _wrong_method(method: str) -> Response | None:
    if method == "POST":
        return None
    words = f"{method} is not served here: this server keeps no sessions and replays no events. POST each message."
    return _error(405, Refusal(INVALID_REQUEST, words), {"Allow": "POST"})


def _wrong_headers(headers: Headers) -> Response | None:
    media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != JSON_TYPE:
        words = f"Content-Type must be {JSON_TYPE}, not '{media_type[:100]}'"
        return _error(415, Refusal(INVALID_REQUEST, words), {"Accept": JSON_TYPE})
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        words = f"Content-Encoding '{encoding[:100]}' is not understood; send the message uncompressed"
        return _error(415, Refusal(INVALID_REQUEST, words), {"Accept-Encoding": "identity"})
    accepted = {part.partition(";")[0].strip().lower() for part in headers.get("accept", "").split(",")}
    wanted = ((JSON_TYPE, "application/*"), (STREAM_TYPE, "text/*"))
    if "*/*" not in accepted and not all(accepted & set(names) for names in wanted):
        words = f"Accept must name both {JSON_TYPE} and {STREAM_TYPE}: progress needs a stream"
        return _error(406, Refusal(INVALID_REQUEST, words))
    return None


def _too_long(most: int) -> Response:
    return _error(413, Refusal(INVALID_REQUEST, f"the message is longer than {most} bytes; send smaller images"))


def _error(status: int, refusal: Refusal, headers: dict[str, str] | None = None) -> Response:
    body = refusal.answer().model_dump_json(by_alias=True, exclude_unset=True)
    return Response(body, status, headers, JSON_TYPE)


async def _refuse(scope: Scope, response: Response, receive: Receive, send: Send) -> None:
    log.info("refused %s %s with %d", scope["method"], scope["path"], response.status_code)
    await response(scope, receive, send)
