"""A front in trouble: it says so, tries again, and can always be ended."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from typing import Any

import httpx2
import pytest

from tests.support.http_fronts import Running, running
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

HEADERS = {"Accept": "application/json, text/event-stream"}
# SIGUSR1 switches the trouble on, SIGUSR2 off.
SWITCH = """
import signal
on = False
def switch(number, frame):
    global on
    on = number == signal.SIGUSR1
    print("switched", file=__import__("sys").stderr, flush=True)
signal.signal(signal.SIGUSR1, switch)
signal.signal(signal.SIGUSR2, switch)
"""
NO_THREADS = """
import threading
start = threading.Thread.start
def start_if_there_are_threads(self):
    if on:
        raise RuntimeError("can't start new thread")
    start(self)
threading.Thread.start = start_if_there_are_threads
"""
TROUBLED = """
from wan_mcp.jobs.supervisor import Supervisor
supervise = Supervisor.supervise
class Unthinkable(%s):
    pass
def troubled(self):
    if on:
        raise Unthinkable("what nobody has thought of")
    return supervise(self)
Supervisor.supervise = troubled
"""
HANGS = """
import sys, threading
from wan_mcp.service.queue import Queue
def hang(self, job_id):
    print("it hangs", file=sys.stderr, flush=True)
    threading.Event().wait()
Queue.view = hang
"""
IMPATIENT = "import wan_mcp.jobs.database as d; d.BUSY_TIMEOUT_MS = 100"


def call(front: Running, tool: str, **arguments: Any) -> dict[str, Any]:
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    answer = httpx2.post(f"{front.url}/mcp", json=message, headers=HEADERS, timeout=PATIENCE_S)
    [event] = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    result: dict[str, Any] = json.loads(event.removeprefix("data: "))["result"]
    return result


def health(front: Running) -> tuple[int, str]:
    answer = httpx2.get(f"{front.url}/healthz", timeout=PATIENCE_S)
    return answer.status_code, answer.json().get("reason", "")


def until(front: Running, well: bool) -> str:
    """Wait until the health is as wanted; the reason, if it is bad."""
    end = time.monotonic() + PATIENCE_S
    while (answer := health(front))[0] != (200 if well else 503):
        assert time.monotonic() < end, answer
        time.sleep(0.1)
    return answer[1]


def switch(front: Running, number: signal.Signals) -> None:
    before = front.log.count("switched")
    front.process.send_signal(number)
    front.wait_for(lambda log: log.count("switched") > before)


def test_a_defect_in_the_supervision_is_reported_and_tried_again(settings: Settings) -> None:
    with running(settings, SWITCH + TROUBLED % "Exception") as front:
        assert health(front) == (200, "")
        switch(front, signal.SIGUSR1)
        job = call(front, "generate_video", prompt="a star", wait_s=0)["structuredContent"]
        assert "Unthinkable: what nobody has thought of" in until(front, well=False)
        assert call(front, "get_job", job_id=job["job_id"], wait_s=0)["structuredContent"]["job_id"] == job["job_id"]
        switch(front, signal.SIGUSR2)
        until(front, well=True)
        done = call(front, "get_job", job_id=job["job_id"], wait_s=PATIENCE_S)
        assert done["structuredContent"]["status"] == "succeeded"
        assert front.log.count("jobs are not supervised: Unthinkable") >= 1
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(60) == 0


def test_a_front_without_threads_says_so_answers_and_recovers(settings: Settings) -> None:
    with running(settings, SWITCH + NO_THREADS) as front:
        switch(front, signal.SIGUSR1)
        assert "can't start new thread" in until(front, well=False)
        assert call(front, "generate_image", prompt="a star")["isError"]
        switch(front, signal.SIGUSR2)
        assert health(front) == (200, "")
        assert not call(front, "generate_image", prompt="a star", steps=2)["isError"]
        switch(front, signal.SIGUSR1)
        front.process.send_signal(signal.SIGTERM)
        assert front.process.wait(60) == 0


def test_a_front_whose_supervision_ends_for_good_ends_with_a_code(settings: Settings) -> None:
    with running(settings, SWITCH + TROUBLED % "BaseException" + HANGS) as front, front.connect() as waiting:
        switch(front, signal.SIGUSR1)
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"generate_video",'
        body += b'"arguments":{"prompt":"a star"}}}'
        head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        waiting.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert front.process.wait(60) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_front_while_a_call_hangs(settings: Settings, number: signal.Signals) -> None:
    with running(settings, HANGS) as front, front.connect() as waiting:
        body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_job","arguments":{"job_id":"x"}}}'
        head = b"POST /mcp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nAccept: */*\r\n"
        waiting.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        front.wait_for(lambda log: "it hangs" in log)
        front.process.send_signal(number)
        assert front.process.wait(60) == 0
        front.wait_for(lambda log: log.endswith("ending the process\n"))
    assert "Traceback" not in front.log


def test_a_job_table_that_is_locked_or_removed_costs_the_front_nothing(settings: Settings) -> None:
    with running(settings, IMPATIENT) as front:
        first = call(front, "generate_image", prompt="a star", steps=2)["structuredContent"]
        assert first["status"] == "succeeded"
        with closing(sqlite3.connect(settings.database, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            refused = call(front, "generate_image", prompt="a star", steps=2)
            assert "locked" in refused["content"][0]["text"]
            other.execute("ROLLBACK")
        assert not call(front, "generate_image", prompt="a star", steps=2)["isError"]
        for file in settings.home.glob("jobs.db*"):
            file.unlink()
        until(front, well=True)
        assert call(front, "get_job", job_id=first["job_id"])["isError"]
        again = call(front, "generate_image", prompt="a star", steps=2, seed=1)["structuredContent"]
        assert again["status"] == "succeeded"
        with closing(sqlite3.connect(settings.database)) as table:
            assert table.execute("SELECT id FROM jobs").fetchall() == [(again["job_id"],)]
