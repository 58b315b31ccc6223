"""The Space on ZeroGPU: the real `spaces` package forks, and its child is an engine of the job table, on the CPU.

What stands in for ZeroGPU is its scheduler, and that `spaces` finds no torch: it would ask for CUDA. The embedded
model's engine is the true one.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from tests.clients.environments import python_environment
from tests.support.patience import PATIENCE_S
from tests.support.zerogpu import Scheduler, scheduler
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

CHECKOUT = Path(__file__).parents[2]
RUN = """
import runpy, sys
sys.modules["torch"] = None
import spaces
del sys.modules["torch"]
sys.path[:0] = [sys.argv[2]]
sys.path += sys.argv[3:]
runpy.run_path(sys.argv[1], run_name="__main__")
"""
SUBMIT = """
import sys
from gradio_client import Client
client = Client(sys.argv[1], verbose=False)
client.predict("", "a red circle", int(sys.argv[2]), "", 7, False, 0, api_name="/text_to_image")
"""

START = """
import json, sys
import gradio
from wan_mcp.settings import Settings
from zerogpu import GpuCalls
asked = []
def gpu(duration):
    def wrapped(function):
        def call(*arguments):
            asked.append(duration)
            return function(*arguments)
        return call
    return wrapped
calls = GpuCalls(Settings(), gpu)
calls.prepare("wan-mini-caption")
calls.prepare("wan-mini-caption")
try:
    calls.expect("a job", 500.0)
except gradio.Error as refusal:
    print(json.dumps({"asked": asked, "title": refusal.title, "words": refusal.message}))
"""


@dataclass
class Space:
    """A Space on ZeroGPU, as far as that can be had here."""

    url: str
    home: Path
    python: Path
    gpus: Scheduler
    log: Path

    def submit(self, steps: int) -> None:
        """Ask for an image, as a visitor's program does."""
        subprocess.run([self.python, "-c", SUBMIT, self.url, str(steps)], check=True, timeout=PATIENCE_S)

    def newest(self) -> Job:
        """The job that was submitted last."""
        with closing(Database(self.home / "jobs.db")) as database:
            return JobStore(database).newest(limit=1)[0]

    def until(self, wanted: Callable[[Job], bool]) -> Job:
        """Wait until the newest job is as wanted."""
        until = time.monotonic() + PATIENCE_S
        while not wanted(job := self.newest()):
            assert time.monotonic() < until, f"{job}\n{self.log.read_text(encoding='utf-8')}"
            time.sleep(0.02)
        return job


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Space]:
    python = python_environment("space")
    folder = tmp_path_factory.mktemp("zerogpu")
    home, log = folder / "home", folder / "space.log"
    home.mkdir(mode=0o700)
    (folder / "cgroup").write_text("0::/here\n", encoding="ascii")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    others = [str(CHECKOUT / "src"), sysconfig.get_paths()["purelib"], *[p for p in sys.path if "site-packages" in p]]
    with scheduler() as gpus, log.open("wb") as out:
        environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(folder),
            "WAN_MCP_HOME": str(home),
            "WAN_MCP_DEVICE": "cpu",
            "WAN_MCP_THREADS": "1",
            "SPACES_ZERO_GPU": "true",
            "SPACES_ZERO_DEVICE_API_URL": gpus.url,
            "ZEROGPU_PROC_SELF_CGROUP_PATH": str(folder / "cgroup"),
            "PYTHONPATH": os.pathsep.join(others),  # of the commands that the Space runs
            "GRADIO_SERVER_PORT": str(port),
            "GRADIO_ANALYTICS_ENABLED": "False",
            "GRADIO_TEMP_DIR": str(folder / "gradio"),
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",  # Gradio's own
        }
        command = [str(python), "-c", RUN, str(CHECKOUT / "space" / "app.py"), str(CHECKOUT / "space"), *others]
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, cwd=folder)
        try:
            until = time.monotonic() + PATIENCE_S
            url = f"http://127.0.0.1:{port}"
            while True:
                try:
                    httpx2.get(url, timeout=5)
                    break
                except httpx2.TransportError:
                    assert process.poll() is None and time.monotonic() < until, log.read_text(encoding="utf-8")
                    time.sleep(0.05)
            yield Space(url, home, python, gpus, log)
        finally:
            children = psutil.Process(process.pid).children(recursive=True)
            process.terminate()
            process.wait(PATIENCE_S)
            for child in children:
                if child.is_running():
                    child.kill()


def test_a_job_is_served_in_the_child_that_has_the_gpu(space: Space) -> None:
    space.submit(2)
    job = space.until(lambda job: job.state.final)
    assert job.state is JobState.SUCCEEDED, job.error
    assert job.client == "Space" and job.owner.startswith("space:")
    assert job.device == "cpu"
    assert read_receipt(Path(job.artifacts[0].path)) is not None
    [child] = set(space.gpus.children)
    with closing(Database(space.home / "jobs.db")) as database:
        engines = {row["pid"] for row in database.read("SELECT pid FROM engines")}
    assert engines == {child}
    assert int(space.gpus.asked[0]["durationSeconds"]) > 0


def test_a_killed_child_costs_no_job(space: Space) -> None:
    space.submit(40)
    job = space.until(lambda job: job.progress is not None and (job.progress.step or 0) >= 1)
    os.kill(space.gpus.children[-1], signal.SIGKILL)
    again = space.until(lambda job: job.state.final)
    assert (again.id, again.state, again.attempt) == (job.id, JobState.SUCCEEDED, 2)
    assert len(set(space.gpus.children)) >= 2


def test_a_job_whose_visitor_has_no_quota_left_fails_with_the_reason(space: Space) -> None:
    space.gpus.exhausted = True
    try:
        space.submit(2)
        job = space.until(lambda job: job.state.final)
    finally:
        space.gpus.exhausted = False
    assert job.state is JobState.FAILED
    assert job.error is not None and job.error.code == "no_gpu"
    assert "ZeroGPU" in job.error.message
    space.submit(2)
    assert space.until(lambda job: job.state.final).state is JobState.SUCCEEDED, "which holds up nobody else"


def test_models_are_compiled_in_one_long_call_and_too_long_jobs_are_refused_at_once(tmp_path: Path) -> None:
    path = [str(CHECKOUT / "space"), str(CHECKOUT / "src"), sysconfig.get_paths()["purelib"]]
    environment = os.environ | {
        "WAN_MCP_HOME": str(tmp_path),
        "WAN_MCP_DEVICE": "cpu",
        "SPACE_COMPILE_SECONDS": "200",
        "SPACE_GPU_SECONDS": "90",
        "PYTHONPATH": os.pathsep.join([*path, *[each for each in sys.path if "site-packages" in each]]),
        "PYTHONWARNINGS": "ignore",
    }
    command = [str(python_environment("space")), "-c", START]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout.splitlines()[-1])
    assert said["asked"] == [200], "once for this model, torch and version"
    assert json.loads((tmp_path / "space-compiled.json").read_text(encoding="utf-8"))["model"] == "wan-mini-caption"
    assert said["title"] == "Too long"
    assert "about 500 s of a GPU; this Space asks for 90 s at most" in said["words"]
