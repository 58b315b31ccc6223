"""What stands between HTTP clients and the SDK's endpoint: refusals in words, whole messages, early headers.

This is the one place for what SDK 2.3 does not do for a stateless server:

- It answers 500 to `GET` with `Last-Event-ID`, and holds a silent stream open for every other `GET`.
- It accepts a request whose id is null without an answer, and answers a batch in pydantic's words.
- It compares media types with their case, and answers 406 without words.
- It logs a traceback when a client hangs up in the middle of a body, and parses whatever fits the size limit.
- It sends no headers for 15 s if a call of the 2026-07-28 protocol has no progress token. Proxies take that for a
  server that does not work.
- It answers every call of an older protocol with a stream, which costs as much as the rest of a quick call.
"""

import asyncio
import logging
from collections.abc import Collection
from contextlib import ExitStack
from dataclasses import dataclass
from typing import BinaryIO, Self

from anyio.to_thread import run_sync
from mcp.types import INTERNAL_ERROR, INVALID_REQUEST, JSONRPCMessage, JSONRPCRequest
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.fronts.mcp.carried_images import SMALL_BYTES, read_light
from wan_mcp.fronts.mcp.messages import Refusal
from wan_mcp.media.kept_uris import KeptUris
from wan_mcp.service.service import JobService

__all__ = ["ENDPOINT", "HttpEntry"]

log = logging.getLogger(__name__)

ENDPOINT = "/mcp"
HEADERS_AFTER_S = 0.3  # an answer that comes sooner has its own status
LARGE_BYTES = 1_000_000  # of a body; such ones are read one at a time
MAX_HELD_BYTES = 2_000_000_000  # on the disk, of all requests whose bodies are not read yet
JSON_TYPE, STREAM_TYPE = "application/json", "text/event-stream"
STREAM_HEADERS = [
    (b"content-type", STREAM_TYPE.encode()),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]


class HttpEntry:
    """A middleware for requests to /mcp; it passes others on."""

    def __init__(
        self, app: ASGIApp, max_body_bytes: int, service: JobService, quick_app: ASGIApp, quick_tools: Collection[str]
    ) -> None:
        """Pass calls of `quick_tools` that ask for no progress on to `quick_app`, which answers without a stream."""
        self._app, self._quick_app, self._quick_tools = app, quick_app, quick_tools
        self._max_body_bytes = max_body_bytes
        self._service = service
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
        with ExitStack() as images:
            try:
                body = await self._read(headers, receive, images)
            except (OutOfSpace, HomeUnusable) as error:
                body = _error(503, Refusal(INTERNAL_ERROR, str(error)), {"Retry-After": "60"})
            if isinstance(body, Response):
                await _refuse(scope, body, receive, send)
            elif body is not None:
                await self._pass_on(scope, body, receive, send)

    async def _read(self, headers: Headers, receive: Receive, images: ExitStack) -> "_Readable | Response | None":
        """Return a readable message without its images, which are kept for as long as `images` is open.

        Returns the refusal of another message, and None if the client hung up.
        """
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._max_body_bytes:
            return _too_long(self._max_body_bytes)
        with _Body(self._service.uris) as body:
            try:
                refusal = await self._receive(receive, body)
            finally:
                self._held_bytes -= body.size
            if refusal is not None or not body.complete:
                return refusal
            if body.size <= SMALL_BYTES:
                return self._serve_or_refuse(body.content(), images)
            return await run_sync(
                lambda: self._serve_or_refuse(body.content(), images),
                limiter=self._service.large_work if body.size > LARGE_BYTES else None,
            )

    def _serve_or_refuse(self, raw: bytes, images: ExitStack) -> "_Readable | Response":
        """Return what the SDK is to read in place of a message, or the message's refusal."""
        message, lighter = read_light(raw, self._service.uris, images)
        if isinstance(message, Refusal):
            return _error(413 if message.too_large else 400, message)
        content = message.model_dump_json(by_alias=True, exclude_unset=True).encode() if lighter else raw
        return _Readable(content, quick=self._is_quick(message))

    def _is_quick(self, message: JSONRPCMessage) -> bool:
        if not isinstance(message, JSONRPCRequest) or message.method != "tools/call":
            return False
        params = message.params or {}
        meta = params.get("_meta")
        wants_progress = isinstance(meta, dict) and meta.get("progressToken") is not None
        return params.get("name") in self._quick_tools and not wants_progress

    async def _receive(self, receive: Receive, body: "_Body") -> Response | None:
        """Receive a body; return the refusal of one that is too large."""
        while not body.complete:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            chunk = message.get("body", b"")
            body.add(chunk)
            self._held_bytes += len(chunk)
            if body.size > self._max_body_bytes:
                return _too_long(self._max_body_bytes)
            if self._held_bytes > MAX_HELD_BYTES:
                words = "the server holds too many large requests; try again in a moment"
                return _error(503, Refusal(INVALID_REQUEST, words), {"Retry-After": "5"})
            body.complete = not message.get("more_body", False)
        return None

    async def _pass_on(self, scope: Scope, message: "_Readable", receive: Receive, send: Send) -> None:
        """Let the SDK answer a readable message."""
        headers = MutableHeaders(raw=list(scope["headers"]))
        headers["content-type"] = JSON_TYPE
        headers["content-length"] = str(len(message.content))
        unread: list[Message] = [{"type": "http.request", "body": message.content, "more_body": False}]

        async def replay() -> Message:
            return unread.pop() if unread else await receive()

        answer = _Answer(send)
        try:
            app = self._quick_app if message.quick else self._app
            await app({**scope, "headers": headers.raw}, replay, answer.send)
        finally:
            answer.end()


@dataclass(frozen=True)
class _Readable:
    """A message that the SDK can read."""

    content: bytes
    quick: bool
    """Whether it calls a tool that answers at once, and asks for no progress."""


class _Body:
    """The body of one request: in memory while it is small, else in a file, since many may arrive slowly at once."""

    def __init__(self, uris: KeptUris) -> None:
        self._uris = uris
        self._start = bytearray()
        self._file: BinaryIO | None = None
        self.size = 0
        self.complete = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, chunk: bytes) -> None:
        """Add the next bytes.

        Raises:
            OutOfSpace, HomeUnusable: there is no room for them, or no place.
        """
        self.size += len(chunk)
        if self.size <= SMALL_BYTES:
            self._start += chunk
            return
        if self._file is None:
            self._file = self._uris.new_file()
            chunk, self._start = bytes(self._start) + chunk, bytearray()
        self._uris.write(self._file, chunk)

    def content(self) -> bytes:
        """Return all of it."""
        if self._file is None:
            return bytes(self._start)
        self._file.seek(0)
        return self._file.read()


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
