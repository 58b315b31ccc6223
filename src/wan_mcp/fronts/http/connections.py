"""The HTTP server's connections: how many, and for how long one may keep the server waiting.

uvicorn has a time limit for idle connections and a bound on their number, but none for a request that arrives slowly
or never completely, and asyncio floods the log when the process has no file descriptors left (CPython issue 151615).
This is the one place for what they lack.
"""

import asyncio
import errno
import logging
import resource
import socket
import time
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = [
    "ACCEPTED_AT_ONCE",
    "MAX_CONNECTIONS",
    "Connection",
    "Listener",
    "max_connections",
    "quiet_without_descriptors",
]

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 1000
HEADERS_S = 15.0  # from connecting, or from a request's first byte, to the end of its headers
BODY_S = 30.0  # for the body of a request, and as much more as it needs at this rate:
BODY_BYTES_PER_S = 32_000
STALL_S = 120.0  # how long a client may read nothing of an answer; a player that is paused asks again
BACKLOG = 1024
ACCEPTED_AT_ONCE = 32  # before the bound on connections is looked at
PAUSE_S = 1.0  # between tries to accept a connection without descriptors; asyncio's own
SELDOM_S = 60.0


def max_connections() -> int:
    """Return how many connections may be open: half of the descriptors that this process may have, at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, soft // 2))


class _Seldom:
    """A warning that is logged once a minute at most, however often its reason occurs."""

    def __init__(self) -> None:
        self._next = 0.0

    def warn(self, message: str, *values: object) -> None:
        """Log a message unless one was logged a moment ago."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + SELDOM_S
            log.warning(message, *values)


_full, _exhausted = _Seldom(), _Seldom()


class Connection(H11Protocol):
    """A connection with deadlines. If too many are open, the one that has been idle for longest is closed."""

    _began = 0.0  # when the connection was made or last idle, or when the body under way began
    _received = 0  # bytes of the request under way, or of its body
    _awaited: str | None = None  # "headers" or "body", if a deadline is set for them
    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; if too many connections are open, close one."""
        super().connection_made(transport)
        self._began = self.loop.time()
        self._await("headers", HEADERS_S)
        most = self.limit_concurrency
        if most is not None and len(self.connections) >= most:
            _full.warn("%d connections are open, the most allowed; those idle for longest are closed", most)
            idle = [other for other in self.connections if isinstance(other, Connection) and other.idle]
            victim = min(idle, key=lambda other: other._began)
            if victim is self or victim._received:
                victim._answer(503, "The server has too many connections; try again later.")
            victim.connections.discard(victim)
            victim.transport.close()

    @property
    def idle(self) -> bool:
        """Whether no request is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def data_received(self, data: bytes) -> None:
        """Keep the deadlines up to date."""
        self._received += len(data)
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one."""
        self._began, self._received = self.loop.time(), 0
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        """Give up a client that reads nothing."""
        super().pause_writing()
        self._stall = self.loop.call_later(STALL_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Go on."""
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def connection_lost(self, exc: Exception | None) -> None:
        """End all timers."""
        super().connection_lost(exc)
        self._await(None)
        self._unset_keepalive_if_required()
        if self._stall is not None:
            self._stall.cancel()

    def _watch(self) -> None:
        """Set the deadline that the state of the connection calls for, unless it is set."""
        if self.transport.is_closing():
            self._await(None)
        elif self.conn.their_state is h11.SEND_BODY:
            if self._awaited != "body":
                self._began, self._received = self.loop.time(), 0
                self._await("body", BODY_S)
        elif self.conn.their_state is h11.IDLE and self.timeout_keep_alive_task is None:
            if self._awaited != "headers":  # further bytes of the same request change nothing
                self._await("headers", HEADERS_S)
        else:
            self._await(None)

    def _await(self, what: str | None, seconds: float = 0.0) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._awaited = what
        self._deadline = None if what is None else self.loop.call_later(seconds, self._overdue)

    def _overdue(self) -> None:
        if self.transport.is_closing():
            return
        if self._awaited == "body":
            if self.flow.read_paused:  # it is the server that keeps the client waiting
                self._began += BODY_S
            left_s = self._began + BODY_S + self._received / BODY_BYTES_PER_S - self.loop.time()
            if left_s > 0:
                self._await("body", left_s)
                return
            if not self.cycle.response_started:
                self._answer(408, "The body of the request did not arrive in time.")
        elif self._received:  # browsers connect in advance, and would take an answer for that to their next request
            self._answer(408, "The headers of the request did not arrive in time.")
        self.transport.close()

    def _answer(self, status: int, words: str) -> None:
        """Write an answer that does not come from the application."""
        body = words.encode() + b"\n"
        reason = {408: b"Request Timeout", 503: b"Service Unavailable"}[status]
        self.transport.write(
            b"HTTP/1.1 %d %s\r\nconnection: close\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\n\r\n%s" % (status, reason, len(body), body)
        )


class Listener(socket.socket):
    """A listening socket that survives a process without file descriptors.

    asyncio stops listening for a second when `accept` fails for want of descriptors, but first repeats it as often as
    the backlog is long and logs a traceback each time, and then listens again as many times.
    """

    _next_failure = 0.0

    def listen(self, backlog: int = BACKLOG, /) -> None:
        """Listen. `backlog` is what asyncio takes to be it: how many connections it accepts at a time."""
        super().listen(max(backlog, BACKLOG))

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection; fail once a second at most, and otherwise as if none were waiting.

        Raises:
            OSError: There are no descriptors; asyncio pauses.
        """
        if time.monotonic() < self._next_failure:
            raise BlockingIOError
        try:
            return super().accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._next_failure = time.monotonic() + 0.9 * PAUSE_S
            raise


def quiet_without_descriptors(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Handle the event loop's errors: one line a minute for want of descriptors, others as usual."""
    error = context.get("exception")
    if isinstance(error, OSError) and "accept" in str(context.get("message")):
        _exhausted.warn("cannot accept connections for now: %s", error.strerror)
    else:
        loop.default_exception_handler(context)
