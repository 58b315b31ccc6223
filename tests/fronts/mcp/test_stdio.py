"""The server as a process: what reaches stdout, what is imported, how it ends."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.types import CallToolResult

from tests.fixtures.mcp_server import ERAS, Pace
from tests.support.patience import PATIENCE_S
from tests.support.stdio_fronts import front, piped
from wan_mcp.settings import Settings

NOISY = """
import atexit, os, sys
import wan_mcp.fronts.mcp

class Noise:
    def find_spec(self, name, path=None, target=None):
        if name == "wan_mcp.fronts.mcp.server":
            print("while importing")
            os.write(1, b"raw bytes")
            os.system("echo from a child")

sys.meta_path.insert(0, Noise())
atexit.register(print, "at exit")
"""
HEAVY = ("torch", "diffusers", "transformers", "torchao", "PIL", "numpy", "pygments", "huggingface_hub")


def test_a_front_answers_without_importing_anything_heavy(settings: Settings, tmp_path: Path) -> None:
    report = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    with piped(front(settings, after=report), tmp_path / "log") as pipe:
        pipe.initialize()
        pipe.send(id=2, method="tools/list")
        assert len(pipe.receive()["result"]["tools"]) == 10
        pipe.send(id=3, method="tools/call", params={"name": "list_resolutions", "arguments": {}})
        assert not pipe.receive()["result"]["isError"]
        _, status = pipe.hang_up(PATIENCE_S)
        assert pipe.log().strip().endswith("[]"), pipe.log()
    assert status == 0


def test_nothing_but_protocol_reaches_stdout(settings: Settings, tmp_path: Path) -> None:
    with piped(front(settings, before=NOISY, after="print('after serving')"), tmp_path / "log") as pipe:
        pipe.initialize()
        out, _ = pipe.hang_up(PATIENCE_S)
        log = pipe.log()
    assert out == b""
    for words in ("while importing", "raw bytes", "from a child", "after serving", "at exit"):
        assert words in log


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_front_while_it_waits_for_a_message(
    settings: Settings, tmp_path: Path, number: signal.Signals
) -> None:
    with piped(front(settings), tmp_path / "log") as pipe:
        pipe.initialize()
        pipe.process.send_signal(number)
        assert pipe.process.wait(timeout=PATIENCE_S) == -number


@pytest.mark.anyio
@pytest.mark.parametrize("mode", ERAS)
async def test_a_job_is_submitted_in_one_process_and_got_in_another(engine: Callable[..., Settings], mode: str) -> None:
    """The engine prints to its own stdout meanwhile; no client sees it."""
    settings = engine("prints")

    async def call(tool: str, **arguments: Any) -> CallToolResult:
        values: list[float] = []

        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            values.append(progress)

        async with Client(front(settings), mode=mode) as client:
            result = await client.call_tool(tool, arguments, progress_callback=on_progress)
        assert values == sorted(set(values))
        assert values or tool == "get_job"  # a job that is done already has no progress left to tell
        return result

    with anyio.fail_after(PATIENCE_S):
        started = await call("generate_video", prompt="a red circle", wait_s=0, steps=3)
        assert started.structured_content is not None
        finished = await call("get_job", job_id=started.structured_content["job_id"])
        assert finished.structured_content is not None
    assert finished.structured_content["status"] == "succeeded"


def test_nothing_is_written_once_the_client_has_hung_up(settings: Settings, pace: Pace, tmp_path: Path) -> None:
    """A call is under way: mcp 1.30 fails on any message that comes after it has closed its end."""
    with piped(front(settings), tmp_path / "log") as pipe:
        pipe.initialize()
        call = {"name": "generate_video", "arguments": {"prompt": "a star"}, "_meta": {"progressToken": 1}}
        pipe.send(id=2, method="tools/call", params=call)
        assert pipe.receive()["method"] == "notifications/progress"
        pipe.send(id=3, method="ping")
        while "id" not in pipe.receive():
            pass
        output, status = pipe.hang_up(PATIENCE_S)
    messages = [json.loads(line) for line in output.splitlines()]
    assert status == 0
    assert [message for message in messages if message.get("method") != "notifications/progress"] == []


def test_what_was_asked_before_the_end_of_the_input_is_answered(settings: Settings, tmp_path: Path) -> None:
    with piped(front(settings), tmp_path / "log") as pipe:
        pipe.initialize()
        for number in range(2, 12):
            pipe.send(id=number, method="tools/call", params={"name": "list_jobs", "arguments": {}})
        output, status = pipe.hang_up(PATIENCE_S)
    assert status == 0
    assert {json.loads(line)["id"] for line in output.splitlines()} == set(range(2, 12))


def test_a_front_ends_quietly_when_nobody_reads_its_answers(settings: Settings, tmp_path: Path) -> None:
    with piped(front(settings), tmp_path / "log") as pipe:
        pipe.initialize()
        assert pipe.process.stdout is not None
        pipe.process.stdout.close()
        pipe.send(id=2, method="ping")
        assert pipe.process.wait(timeout=PATIENCE_S) == 0
        log = pipe.log()
    assert log.count("no longer reads") == 1
    assert "Traceback" not in log


def test_a_call_that_cannot_be_interrupted_does_not_keep_a_front(settings: Settings, tmp_path: Path) -> None:
    """As on a disk that does not answer: the thread that reads never comes back."""
    hang = "import threading, wan_mcp.service.queue as s; s.Queue.view = lambda *a: threading.Event().wait()"
    with piped(front(settings, before=hang), tmp_path / "log") as pipe:
        pipe.initialize()
        pipe.send(id=2, method="tools/call", params={"name": "get_job", "arguments": {"job_id": "none"}})
        pipe.send(id=3, method="ping")
        assert pipe.receive()["id"] == 3
        assert pipe.hang_up(60) == (b"", 0)


def test_a_front_whose_supervision_ends_for_good_ends_with_a_code(settings: Settings, tmp_path: Path) -> None:
    trouble = """
import threading
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.service.queue import Queue
class Unthinkable(BaseException):
    pass
def end(self):
    raise Unthinkable
Supervisor.supervise = end
Queue.view = lambda *arguments: threading.Event().wait()
"""
    with piped(front(settings, before=trouble), tmp_path / "log") as pipe:
        pipe.initialize()
        call = {"name": "generate_video", "arguments": {"prompt": "a star"}}
        pipe.send(id=2, method="tools/call", params=call)
        assert pipe.process.wait(timeout=60) == 1


def test_a_command_that_cannot_be_read_fails_the_job_and_not_the_front(settings: Settings, tmp_path: Path) -> None:
    with piped(front(settings.model_copy(update={"engine_command": "it's"})), tmp_path / "log") as pipe:
        pipe.initialize()
        pipe.send(id=2, method="tools/call", params={"name": "generate_video", "arguments": {"prompt": "a star"}})
        answer = pipe.receive()["result"]["structuredContent"]
        assert (answer["status"], answer["error"]["code"]) == ("failed", "engine_failed")
        assert "WAN_MCP_ENGINE_COMMAND" in answer["error"]["message"]
        pipe.send(id=3, method="ping")
        assert pipe.receive()["id"] == 3
        assert pipe.hang_up(PATIENCE_S) == (b"", 0)
