"""The server as a process: what reaches stdout, what is imported, how it ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import CallToolResult

from tests.fixtures.mcp_server import ERAS
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

FRONT = "from wan_mcp.settings import Settings; from wan_mcp.fronts.mcp.stdio import run_stdio; run_stdio(Settings())"
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


def front(settings: Settings, before: str = "", after: str = "") -> StdioServerParameters:
    return StdioServerParameters(
        command=sys.executable,
        args=["-c", f"{before}\n{FRONT}\n{after}"],
        env={**os.environ, **settings.environment()},
    )


class Pipe:
    """A client that only knows lines."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def send(self, **message: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        message: dict[str, Any] = json.loads(self.process.stdout.readline())
        return message

    def initialize(self) -> None:
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        self.send(id=1, method="initialize", params=about)
        assert self.receive()["result"]["serverInfo"]["name"] == "wan_mcp"
        self.send(method="notifications/initialized")


@contextmanager
def piped(parameters: StdioServerParameters) -> Iterator[Pipe]:
    with subprocess.Popen(
        [parameters.command, *parameters.args],
        env=parameters.env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Pipe(process)
        finally:
            process.kill()


def test_a_front_answers_without_importing_anything_heavy(settings: Settings) -> None:
    report = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    with piped(front(settings, after=report)) as pipe:
        pipe.initialize()
        pipe.send(id=2, method="tools/list")
        assert len(pipe.receive()["result"]["tools"]) == 7
        pipe.send(id=3, method="tools/call", params={"name": "list_resolutions", "arguments": {}})
        assert not pipe.receive()["result"]["isError"]
        _, errors = pipe.process.communicate(timeout=PATIENCE_S)
    assert errors.strip().endswith("[]"), errors
    assert pipe.process.returncode == 0


def test_nothing_but_protocol_reaches_stdout(settings: Settings) -> None:
    with piped(front(settings, before=NOISY, after="print('after serving')")) as pipe:
        pipe.initialize()
        out, errors = pipe.process.communicate(timeout=PATIENCE_S)
    assert out == ""
    for words in ("while importing", "raw bytes", "from a child", "after serving", "at exit"):
        assert words in errors


def test_a_front_leaves_when_its_client_hangs_up_and_when_it_is_interrupted(settings: Settings) -> None:
    with piped(front(settings)) as pipe:
        pipe.initialize()
        pipe.process.communicate(timeout=PATIENCE_S)
        assert pipe.process.returncode == 0
    with piped(front(settings)) as pipe:
        pipe.initialize()
        pipe.process.send_signal(signal.SIGINT)
        assert pipe.process.wait(timeout=PATIENCE_S) == -signal.SIGINT


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
