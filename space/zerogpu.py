"""ZeroGPU: one job at a time inside a function that `spaces.GPU` wraps, because no process may own a GPU there.

The wrapper forks, and the child has the GPU until the function returns. It is another engine of the job table: it
takes the lock of its device, claims that one job, reports, writes the receipt and leaves. If it is killed, the job
waits again, as with any engine. The supervisor starts such a call where it would start a process.

Import this before anything that may import torch: `spaces` has to come first.
"""

import contextvars
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gradio as gr

from wan_mcp.child_environment import child_environment
from wan_mcp.engine.worker.bare_runner import BareRunner
from wan_mcp.engine.worker.loop import Runner, run_engine
from wan_mcp.errors import JobFailed
from wan_mcp.jobs.connection import close_at_forks
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.devices import AUTO
from wan_mcp.jobs.processes import Processes, Started
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings

__all__ = ["GpuCalls", "calls_of"]

log = logging.getLogger(__name__)

MOST_S = int(os.environ.get("SPACE_GPU_SECONDS") or 120)  # of one call
COMPILE_S = int(os.environ.get("SPACE_COMPILE_SECONDS") or 0)
LEAST_S = 30
SPARE = 1.5  # of an estimate: another GPU, a cold disk
START_S = 20  # importing torch, in a new child
END_S = 5  # before the end of a call, in which the job is given back
TICKETS = 1000
SMALLER = "Choose fewer frames, fewer steps or a smaller size."
ABORTED = "GPU task aborted"  # how `spaces` says that the child was killed


class _Kept:
    """The runner of a child, which lives over its calls: `spaces` uses a child again while it has the same GPU."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def close(self) -> None:
        """Keep the models; the end of the child frees them."""


class _Refusal(BareRunner):
    """A runner that fails its job: there is no GPU for it."""

    def __init__(self, why: str) -> None:
        self._why = why

    def run(self, job: Job, report: object) -> str | None:
        """Fail."""
        raise JobFailed("no_gpu", self._why)


@dataclass
class _Ticket:
    """What is known of a job besides its row."""

    context: contextvars.Context
    """Of the event that submitted it: `spaces` finds there the visitor whose quota the job uses."""
    estimate: float | None
    ran_out: int = 0
    """How many calls ended before the job did."""

    def seconds(self, ran_out: int) -> int:
        """Return what to ask for: the estimate and something to spare, doubled for each call that was too short."""
        first = MOST_S if self.estimate is None else max(LEAST_S, self.estimate * SPARE + START_S)
        return min(MOST_S, round(first * 2.0**ran_out))

    @property
    def hopeless(self) -> bool:
        """True if even the longest call was too short."""
        return self.ran_out > 0 and self.seconds(self.ran_out - 1) == MOST_S


class GpuCalls(Processes):
    """Starts engines as calls of a function with a GPU, in place of processes."""

    def __init__(self, settings: Settings, gpu: Callable[..., Any]) -> None:
        """`gpu` is `spaces.GPU`."""
        close_at_forks()
        self._settings = settings
        self._runner: Runner | None = None
        self._tickets: dict[str, _Ticket] = {}
        self._serve = gpu(duration=lambda job_id, seconds: seconds)(self._serve_in_child)
        self._compile = gpu(duration=COMPILE_S)(self._compile_in_child) if COMPILE_S else None

    # In the parent.

    def expect(self, request_id: str, estimate: float | None) -> None:
        """Remember who is about to submit a job: call this in the event that does, whose visitor has a quota.

        Raises:
            gr.Error: it would take longer than a call may.
        """
        if estimate is not None and estimate > MOST_S:
            words = f"It would take about {estimate:.0f} s of a GPU; this Space asks for {MOST_S} s at most."
            raise gr.Error(f"{words} {SMALLER}", title="Too long")
        self._tickets[request_id] = _Ticket(contextvars.copy_context(), estimate)
        while len(self._tickets) > TICKETS:
            del self._tickets[next(iter(self._tickets))]

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path) -> Started:
        """Start a call for the next job, in a thread."""
        with closing(Database(self._settings.database)) as database:
            queued = [job for job in JobStore(database).unfinished() if job.state is JobState.QUEUED]
        return _Call(self, queued[0] if queued else None, output)

    def serve(self, job: Job) -> int:
        """Serve a job in a child with a GPU, or fail it; return the pid of the process that did.

        Raises:
            _Killed: the child was killed.
            gr.Error: the engine broke.
        """
        # Without a ticket, another process of this Space has submitted it.
        ticket = self._tickets.setdefault(job.request_id or job.id, _Ticket(contextvars.Context(), None))
        if ticket.hopeless:
            words = f"It needs more than {MOST_S} s of a GPU, the most that this Space asks for at once."
            return self._refuse(job, f"{words} {SMALLER}")
        seconds = ticket.seconds(ticket.ran_out)
        log.info("job %s: asking for a GPU for %d s", job.id, seconds)
        try:
            pid, ran_out = ticket.context.copy().run(self._serve, job.id, seconds)
        except gr.Error as error:
            if ABORTED in error.message:
                raise _Killed from error
            if (error.title or "").endswith("worker error"):
                raise
            return self._refuse(job, ". ".join(filter(None, (error.title, str(error.message)))))
        ticket.ran_out += ran_out
        return int(pid)

    def _refuse(self, job: Job, why: str) -> int:
        run_engine(self._settings, lambda _: _Refusal(why), self._devices, only=job.id, leaving=lambda: False)
        return os.getpid()

    def prepare(self, model: str) -> None:
        """Compile a model's blocks in one long call, unless that was done here with this torch."""
        mark = self._settings.home / "space-compiled.json"
        now = {"model": model, "torch": _version("torch"), "wan-mcp": _version("wan-mcp")}
        if self._compile is None or (mark.exists() and json.loads(mark.read_text(encoding="utf-8")) == now):
            return
        try:
            code = self._compile(model)
        except gr.Error as error:
            log.warning("no GPU to compile the blocks of %s: %s; jobs run without", model, error.message)
            return
        if code == 0:
            mark.write_text(json.dumps(now), encoding="utf-8")
        else:
            log.warning("the blocks of %s were not compiled (exit code %d); jobs run without", model, code)

    # In the child.

    def _serve_in_child(self, job_id: str, seconds: int) -> tuple[int, bool]:
        end = time.monotonic() + seconds - END_S

        def runs_out() -> bool:
            return time.monotonic() > end

        run_engine(self._settings, self._kept_runner, self._devices, only=job_id, leaving=runs_out)
        return os.getpid(), runs_out()

    def _kept_runner(self, settings: Settings) -> Runner:
        if self._runner is None:
            from wan_mcp.engine.runner import build_runner

            self._runner = build_runner(settings)
        return _Kept(self._runner)

    def _devices(self) -> list[str]:
        return [self._settings.device]  # never auto: see `calls_of`

    def _compile_in_child(self, model: str) -> int:
        command = [sys.executable, "-m", "wan_mcp", "compile", model]
        environment = child_environment() | self._settings.environment()
        return subprocess.run(command, env=environment, check=False, timeout=COMPILE_S - END_S).returncode


def calls_of(settings: Settings, gpu: Callable[..., Any]) -> tuple[Settings, GpuCalls]:
    """Return the settings and the engines of a Space on ZeroGPU, with its models here and compiled."""
    if settings.device == AUTO:  # nobody may ask torch in this process
        settings = settings.model_copy(update={"device": "cuda:0"})
    for model in dict.fromkeys(settings.default_models.values()):  # no GPU waits for a download
        subprocess.run([sys.executable, "-m", "wan_mcp", "pull", model], check=False)
    calls = GpuCalls(settings, gpu)
    calls.prepare(settings.video_model)
    return settings, calls


class _Call:
    """A call as the supervisor sees it: a process that runs until its job has ended."""

    def __init__(self, calls: GpuCalls, job: Job | None, output: Path) -> None:
        self.pid = 0  # of the child, when it is known: 0 has no identity, so nobody ends it for being slow to start
        self._code: int | None = None
        self._output = output
        self._thread = threading.Thread(target=self._run, args=(calls, job), name="gpu-call", daemon=True)
        self._thread.start()

    def poll(self) -> int | None:
        """Return how it ended; None while it runs."""
        return self._code

    def _run(self, calls: GpuCalls, job: Job | None) -> None:
        try:
            if job is None:  # it was cancelled meanwhile
                raise _Killed
            self.pid = calls.serve(job)
            self._code = 0
        except _Killed:
            self._code = -signal.SIGKILL
        except Exception as error:
            log.exception("a call for a GPU failed")
            self._output.write_text(f"{type(error).__name__}: {error}\n", encoding="utf-8")
            self._code = 1


class _Killed(Exception):
    """The child was killed, or was not needed."""


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
