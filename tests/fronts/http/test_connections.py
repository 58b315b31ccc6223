"""Connections that arrive slowly, never or in masses: a real front answers everybody else meanwhile."""

import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.conftest import settings_for
from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S

DESCRIPTORS = 128
# Deadlines that a test can wait for; the server's own are in seconds of the same kind.
SHORT = """
import wan_mcp.fronts.http.connections as c
c.HEADERS_S, c.BODY_S, c.BODY_BYTES_PER_S, c.STALL_S = 1.0, 1.0, 1e6, 1.0
"""
CALL = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nContent-Type: application/json\r\n"
VIDEO = "0123456789abcdef0123456789abcdef-0.mp4"


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A front with short deadlines."""
    settings = settings_for(tmp_path_factory.mktemp("hasty") / "home")
    video = settings.home / "media" / "videos" / VIDEO
    video.parent.mkdir(parents=True)
    video.write_bytes(bytes(30_000_000))
    with running(settings, SHORT) as front:
        yield front


def answer_of(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    answer = b""
    try:
        while part := connection.recv(65536):
            answer += part
    except ConnectionResetError:
        pass
    return answer


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (b"GET /heal", b"HTTP/1.1 408 "),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: ", b"HTTP/1.1 408 "),
        (CALL + b"Content-Length: 100\r\n\r\n{", b"HTTP/1.1 408 "),
        (CALL + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{", b"HTTP/1.1 408 "),
        (CALL + b"Expect: 100-continue\r\nContent-Length: 9\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 "),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /heal", b"HTTP/1.1 200 "),
        (b"POST /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n1", b"HTTP/1.1 405 "),
    ],
    ids=[
        "nothing",
        "half a line",
        "half a header",
        "half a body",
        "half a chunk",
        "no body",
        "half a second",
        "unread",
    ],
)
def test_what_never_arrives_completely_is_given_up(hasty: Running, sent: bytes, answer: bytes) -> None:
    with hasty.connect() as connection:
        connection.sendall(sent)
        assert answer_of(connection).startswith(answer)


@pytest.mark.parametrize("start", [b"GET /healthz HTTP/1.1\r\nX: ", CALL + b"Content-Length: 9999\r\n\r\n"])
def test_a_trickle_gains_no_time(hasty: Running, start: bytes) -> None:
    with hasty.connect() as connection:
        connection.sendall(start)
        connection.settimeout(0.05)
        end = time.monotonic() + PATIENCE_S
        received = b""
        while time.monotonic() < end:
            try:
                connection.sendall(b"x")
                received = connection.recv(1000)
            except TimeoutError:
                continue
            except OSError:
                break
            if not received:
                break
            assert received.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() < end


def test_a_client_that_reads_nothing_is_given_up(hasty: Running) -> None:
    with hasty.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(b"GET /media/videos/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % VIDEO.encode())
        process = psutil.Process(hasty.process.pid)
        open_to_us = connection.getsockname()
        end = time.monotonic() + PATIENCE_S
        while any(other.raddr == open_to_us for other in process.net_connections("tcp")):
            assert time.monotonic() < end
            time.sleep(0.05)


@pytest.fixture
def crowded(tmp_path: Path) -> Iterator[Running]:
    """A front with few descriptors and the usual deadlines."""

    def few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))

    with running(settings_for(tmp_path / "home"), prepare=few) as front:
        yield front


def test_a_front_answers_while_strangers_hold_more_sockets_than_it_has_descriptors(crowded: Running) -> None:
    process = psutil.Process(crowded.process.pid)
    with ExitStack() as sockets:
        for _ in range(3 * DESCRIPTORS):
            stranger = sockets.enter_context(socket.socket())
            stranger.setblocking(False)
            stranger.connect_ex(("127.0.0.1", int(crowded.url.rpartition(":")[2])))
        for _ in range(20):
            assert httpx2.get(f"{crowded.url}/healthz", timeout=PATIENCE_S).json()["status"] == "ok"
        assert process.num_fds() < DESCRIPTORS
    assert len(crowded.log) < 20_000
    assert "Traceback" not in crowded.log


def test_a_front_without_descriptors_neither_spins_nor_fills_its_log(tmp_path: Path) -> None:
    """Its own files take all descriptors; when they are closed it answers again."""
    hog = """
import os, resource, signal
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
held = []
def take(*_):
    try:
        while True: held.append(os.dup(2))
    except OSError: pass
def leave(*_):
    while held: os.close(held.pop())
signal.signal(signal.SIGUSR1, take)
signal.signal(signal.SIGUSR2, leave)
"""
    with running(settings_for(tmp_path / "home"), hog) as front, ExitStack() as sockets:
        process = psutil.Process(front.process.pid)
        assert httpx2.get(f"{front.url}/healthz", timeout=PATIENCE_S).status_code == 200
        process.send_signal(signal.SIGUSR1)
        for _ in range(100):
            stranger = sockets.enter_context(front.connect())
            stranger.sendall(b"GET / HTTP/1.1\r\nX: ")
        front.wait_for(lambda log: "cannot accept connections" in log)
        used = sum(process.cpu_times()[:2])
        with pytest.raises(httpx2.TimeoutException):
            httpx2.get(f"{front.url}/healthz", timeout=2)
        assert sum(process.cpu_times()[:2]) - used < 1
        process.send_signal(signal.SIGUSR2)
        assert httpx2.get(f"{front.url}/healthz", timeout=PATIENCE_S).status_code == 200
        assert front.log.count("cannot accept connections") == 1
        assert "Traceback" not in front.log
        assert len(front.log) < 20_000
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
