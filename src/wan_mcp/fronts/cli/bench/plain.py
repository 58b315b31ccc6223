"""The other side of a benchmark: plain diffusers in a process by itself, while the device's lock is held here."""

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import anyio
from anyio.to_thread import run_sync
from filelock import Timeout

from wan_mcp.child_environment import child_environment, temporary_in
from wan_mcp.engine.aot import child_process
from wan_mcp.fronts.cli.bench.ours import other_jobs
from wan_mcp.fronts.cli.bench.peak_memory import PeakMemory
from wan_mcp.fronts.cli.bench.side import CAME, OVER, Side
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.permissions import append_to
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

__all__ = ["run_plain"]

CHILD = "wan_mcp.engine.families.plain_main"
LOCK_S = 5.0
LOOK_S = 0.2
"""How often it looks for jobs that came meanwhile."""


async def run_plain(
    service: JobService, jobs: list[Job], folder: Path, until: float, tell: Callable[[str, int], None]
) -> Side:
    """Make the results of these jobs with plain diffusers, on their device; files go to `folder`.

    It ends at `until`, on the clock of `time.monotonic`, and as soon as somebody else's job waits: that job gets the
    device at once.
    """
    settings, device, side = service.settings, jobs[0].device or "cpu", Side()
    facts = folder / "facts.json"
    given: dict[str, Any] = {"device": device, "folder": str(folder), "job_id": jobs[0].id}
    given |= {"plans": [job.plan.model_dump(mode="json") for job in jobs], "seconds": until - time.monotonic()}
    facts.write_text(json.dumps(given), encoding="utf-8")
    lock = engine_lock(settings.home, device)
    try:
        lock.acquire(timeout=LOCK_S)
    except Timeout:
        side.ended = f"another process has taken {device}"
        return side
    try:
        with append_to(settings.log_file) as log:
            said = _Said(await run_sync(_start, facts, settings, log))
        try:
            with PeakMemory(lambda: said.process.pid, lambda: device) as memory:
                while side.ended is None and said.goes_on:
                    _take(said, side, tell)
                    if await other_jobs(service):
                        side.ended = CAME
                    elif time.monotonic() > until:
                        side.ended = OVER
                    await anyio.sleep(LOOK_S)
        finally:
            child_process.end(said.process)
        _take(said, side, tell)
    finally:
        lock.release()
    side.process_bytes, side.gpu_bytes = memory.process_bytes, memory.gpu_bytes
    if side.ended is None and len(side.seconds) < len(jobs):
        side.failed = said.process.returncode != 0
        side.ended = f"its process ended with code {said.process.returncode}" if side.failed else OVER
    return side


def _start(facts: Path, settings: Settings, log: IO[bytes]) -> subprocess.Popen[bytes]:
    environment = child_environment() | settings.environment() | temporary_in(settings.home)
    arguments = ["-W", "ignore", "-m", CHILD, str(facts)]
    return child_process.start(arguments, environment, output=subprocess.PIPE, errors=log)


class _Said:
    """What a process says, line by line, with the seconds since it was started."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._began = time.monotonic()
        self.lines: queue.SimpleQueue[tuple[float, dict[str, Any]]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="plain-diffusers", daemon=True)
        self._reader.start()

    @property
    def goes_on(self) -> bool:
        """Whether it may say more than what is in `lines`."""
        return self._reader.is_alive()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as pipe:
            for line in pipe:
                if line.startswith(b"{"):  # libraries print as well
                    self.lines.put((time.monotonic() - self._began, json.loads(line)))
        self.process.wait()


def _take(said: _Said, side: Side, tell: Callable[[str, int], None]) -> None:
    """Add what the process has said to what was measured."""
    while not said.lines.empty():
        at, line = said.lines.get()
        if "error" in line:
            side.ended, side.failed = line["error"], True
        elif "seconds" in line:
            side.first_s = side.first_s or at
            side.seconds.append(line["seconds"])
            side.files.append(Path(line["file"]))
        else:
            side.facts = line
        tell("diffusers", len(side.seconds) + 1)
