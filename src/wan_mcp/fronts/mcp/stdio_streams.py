"""The stdio transport: one JSON-RPC message a line, on two file descriptors.

It stands in for the SDK's `stdio_server`, which drops unreadable lines in silence, reads lines of any length, needs a
new thread for each line, writes to a client that has closed its side, and cannot stop while it waits for a line. Each
direction has one thread here, which does not keep the process from exiting.
"""

import logging
import os
import queue
import select
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import anyio
from anyio.from_thread import run_sync as run_in_loop
from anyio.lowlevel import EventLoopToken, current_token
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp.types import (
    CONNECTION_CLOSED,
    INTERNAL_ERROR,
    INVALID_REQUEST,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCRequest,
    JSONRPCResponse,
    RequestId,
)

from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.fronts.mcp.carried_images import read_light
from wan_mcp.fronts.mcp.messages import HEAD_BYTES, TAIL_BYTES, Refusal, known_id
from wan_mcp.media.kept_uris import KeptUris

__all__ = ["Incoming", "Outgoing", "stdio_streams"]

log = logging.getLogger(__name__)

CHUNK_BYTES = 262_144
# How long answers to requests that came before the end of the input are still written. `printf … | wan-mcp stdio`
# gets its answers; a client that has hung up gets nothing later (mcp 1.30 fails on it).
GRACE_S = 0.3

Incoming = MemoryObjectReceiveStream[SessionMessage | Exception]
Outgoing = MemoryObjectSendStream[SessionMessage]
T = TypeVar("T")


@asynccontextmanager
async def stdio_streams(
    read_fd: int, write_fd: int, max_line_bytes: int, on_end: Callable[[bool], None], uris: KeptUris
) -> AsyncIterator[tuple[Incoming, Outgoing]]:
    """Provide the streams of a session over two blocking or non-blocking file descriptors.

    Unreadable messages are answered here and never reach the session.

    Args:
        read_fd: Where messages come from. Its end is the end of the incoming stream.
        write_fd: Where messages go to. When it is closed, the incoming stream ends, too.
        max_line_bytes: A longer line is refused, and not kept.
        on_end: Called when no further message is read: with true if the client has left, with false on cancellation.
        uris: Where the images of calls are kept until they are answered.
    """
    incoming_send, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, outgoing_receive = anyio.create_memory_object_stream[SessionMessage](0)
    token = current_token()
    session = _Session(incoming_send, _Writer(write_fd, token), _Lines(max_line_bytes), uris)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(session.read, _Reader(read_fd, token), on_end)
        tasks.start_soon(session.write, outgoing_receive)
        try:
            yield incoming, outgoing
        finally:
            tasks.cancel_scope.cancel()


class _Session:
    """Both directions, and which requests are not answered yet."""

    def __init__(
        self,
        incoming: MemoryObjectSendStream[SessionMessage | Exception],
        writer: "_Writer",
        lines: "_Lines",
        uris: KeptUris,
    ):
        self._uris = uris
        self._images: dict[RequestId | None, ExitStack] = {}  # of the requests that are not answered yet
        self._incoming = incoming
        self._writer = writer
        self._lines = lines
        self._unanswered: set[RequestId] = set()
        self._all_answered = anyio.Event()
        self._input_ended = False
        self._mute = False
        self._reading = anyio.CancelScope()

    async def read(self, reader: "_Reader", on_end: Callable[[bool], None]) -> None:
        """Pass messages on until the input ends or the output is closed."""
        client_left = False
        try:
            async with self._incoming:
                with self._reading:
                    await self._pass_on(reader)
                client_left = True
        finally:
            on_end(client_left)

    async def _pass_on(self, reader: "_Reader") -> None:
        while (chunk := await reader.next()) is not None:
            for line in self._lines.add(chunk):
                await self._receive(line)
        for line in self._lines.end():
            await self._receive(line)
        self._input_ended = True
        if self._unanswered:
            with anyio.move_on_after(GRACE_S):
                await self._all_answered.wait()
        self._mute = True

    async def _receive(self, line: "bytes | Refusal") -> None:
        message = self._read_line(line) if isinstance(line, bytes) else line
        if isinstance(message, Refusal):
            log.warning("refused a message: %s", message.reason)
            await self._send(message.answer())
            return
        if isinstance(message, JSONRPCRequest):
            self._unanswered.add(message.id)
        with suppress(anyio.BrokenResourceError):  # the session is ending
            await self._incoming.send(SessionMessage(message))

    def _read_line(self, line: bytes) -> JSONRPCMessage | Refusal:
        images = ExitStack()
        try:
            message, lighter = read_light(line, self._uris, images)
        except (OutOfSpace, HomeUnusable) as error:
            return Refusal(INTERNAL_ERROR, str(error), known_id(line))
        if lighter and isinstance(message, JSONRPCRequest):
            self._forget_images(message.id)
            self._images[message.id] = images
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            self._forget_images((message.params or {}).get("requestId"))  # it gets no answer
        return message

    def _forget_images(self, request: Any) -> None:
        if isinstance(request, str | int) and (images := self._images.pop(request, None)) is not None:
            images.close()

    async def write(self, outgoing: MemoryObjectReceiveStream[SessionMessage]) -> None:
        """Write the session's messages, in their order."""
        async with outgoing:
            async for item in outgoing:
                message = item.message
                if isinstance(message, JSONRPCResponse | JSONRPCError):
                    self._forget_images(message.id)
                if self._mute or (self._input_ended and not self._answers(message)):
                    continue
                await self._send(message)
                if isinstance(message, JSONRPCResponse | JSONRPCError) and message.id is not None:
                    self._unanswered.discard(message.id)
                    if self._input_ended and not self._unanswered:
                        self._all_answered.set()

    @staticmethod
    def _answers(message: JSONRPCMessage) -> bool:
        """Check whether a message is worth writing after the end of the input."""
        if isinstance(message, JSONRPCError):
            return message.error.code != CONNECTION_CLOSED
        return isinstance(message, JSONRPCResponse)

    async def _send(self, message: JSONRPCMessage) -> None:
        try:
            text = message.model_dump_json(by_alias=True, exclude_unset=True)
        except ValueError:  # such as half of a surrogate pair
            log.exception("a message cannot be written as JSON")
            if not isinstance(message, JSONRPCResponse):
                return
            error = ErrorData(code=INTERNAL_ERROR, message="the result cannot be written as JSON; see the server's log")
            text = JSONRPCError(jsonrpc="2.0", id=message.id, error=error).model_dump_json(exclude_unset=True)
        try:
            await self._writer.write(text.encode() + b"\n")
        except OSError as error:
            if not self._mute:
                log.warning("the client no longer reads its messages (%s); stopping", error.strerror)
            self._mute = True
            self._reading.cancel()


class _Lines:
    """Bytes cut into lines. A line that is too long comes out as a refusal, and only its ends are kept."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._line = bytearray()
        self._head: bytes | None = None  # of the line under way, once it is too long

    def add(self, chunk: bytes) -> "list[bytes | Refusal]":
        """Return the lines that `chunk` completes, without blank ones."""
        *complete, rest = chunk.split(b"\n")
        lines: list[bytes | Refusal] = []
        for part in complete:
            self._grow(part)
            lines += self.end()
        self._grow(rest)
        return lines

    def end(self) -> "list[bytes | Refusal]":
        """Return the line under way, as at the end of the input."""
        line, head = bytes(self._line), self._head
        self._line, self._head = bytearray(), None
        if head is not None:
            reason = f"Invalid Request: the message is longer than {self._max_bytes} bytes"
            return [Refusal(INVALID_REQUEST, reason, known_id(head + line, whole=False), too_large=True)]
        line = line.strip()
        return [line] if line else []

    def _grow(self, part: bytes) -> None:
        self._line += part
        if self._head is None and len(self._line) > self._max_bytes:
            self._head = bytes(self._line[:HEAD_BYTES])
        if self._head is not None:
            del self._line[:-TAIL_BYTES]


class _Reader:
    """A thread that reads; the next chunk is read when the last one has been used."""

    def __init__(self, fd: int, token: EventLoopToken) -> None:
        self._fd = fd
        self._token = token
        self._wanted = threading.Semaphore(0)
        self._chunks: list[bytes | None] = []
        self._arrived = anyio.Event()
        threading.Thread(target=self._run, name="stdin", daemon=True).start()

    async def next(self) -> bytes | None:
        """Return some bytes, or None at the end of the input."""
        self._arrived = anyio.Event()
        self._wanted.release()
        await self._arrived.wait()
        return self._chunks.pop()

    def _run(self) -> None:
        chunk: bytes | None = b""
        while chunk is not None:
            self._wanted.acquire()
            try:
                chunk = _when_ready(self._fd, False, partial(os.read, self._fd, CHUNK_BYTES)) or None
            except OSError as error:
                log.warning("cannot read from the client (%s); stopping", error.strerror)
                chunk = None
            if not _call(self._token, self._deliver, chunk):
                return

    def _deliver(self, chunk: bytes | None) -> None:
        self._chunks.append(chunk)
        self._arrived.set()


class _Writer:
    """A thread that writes, so that a client that does not read holds up nothing else."""

    def __init__(self, fd: int, token: EventLoopToken) -> None:
        self._fd = fd
        self._token = token
        self._jobs: queue.SimpleQueue[tuple[bytes, Callable[[OSError | None], None]]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="stdout", daemon=True).start()

    async def write(self, data: bytes) -> None:
        """Write all of `data`.

        Raises:
            OSError: Nobody reads the other end.
        """
        written = anyio.Event()
        failures: list[OSError | None] = []

        def done(failure: OSError | None) -> None:
            failures.append(failure)
            written.set()

        self._jobs.put((data, done))
        await written.wait()
        if (failure := failures[0]) is not None:
            raise failure

    def _run(self) -> None:
        while True:
            data, done = self._jobs.get()
            failure = None
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[_when_ready(self._fd, True, partial(os.write, self._fd, rest)) :]
            except OSError as error:
                failure = error
            if not _call(self._token, done, failure):
                return


def _when_ready(fd: int, writing: bool, do: Callable[[], T]) -> T:
    """Do something with a file descriptor that may be non-blocking."""
    while True:
        try:
            return do()
        except BlockingIOError:
            select.select([] if writing else [fd], [fd] if writing else [], [])


def _call(token: EventLoopToken, function: Callable[[T], None], argument: T) -> bool:
    """Call a function in the event loop; return False if the loop has ended."""
    try:
        run_in_loop(function, argument, token=token)
    except RuntimeError:  # also anyio's own error for a loop that has ended
        return False
    return True
