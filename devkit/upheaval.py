"""Many jobs through several fronts, while engines and fronts of every kind are killed and stopped at random.

Unlike `storm`, it does not choose whom to hit by the job: starters, losers of the start race, ready engines and fronts
die at any moment. The fronts differ: two have the same settings, so that their engines race; one has another device;
one cannot start engines at all, and its jobs run all the same. Every job must succeed: none deserves to fail, because
a front that can start engines always runs.
"""

import json
import os
import random
import shlex
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import locked_devices
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.settings import Settings

__all__ = ["Upheaval", "UpheavalReport"]

KINDS = {
    "starters": 3,
    "losers": 10,
    "ready engines": 6,
    "fronts": 1,
    "stopped engines": 0.5,
    "stopped fronts": 0.2,
}
"""Whom to hit, and how often."""
AT_ONCE = 8  # calls of a front without an answer
MAX_PAUSE_S = 1.6  # between two hits
HURRY = 0.02  # of the looks at a machine without a ready engine, those that hit all the same
STOPPED_S = 4.0  # longer than the deadline of a step below, and than a front's patience
DRAIN_S = 400.0
HANDSHAKE: tuple[dict[str, Any], ...] = (
    {
        "jsonrpc": "2.0",
        "id": 0,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "upheaval", "version": "1"},
        },
    },
    {"jsonrpc": "2.0", "method": "notifications/initialized"},
)


@dataclass
class UpheavalReport:
    """What was done, and what came of it."""

    hits: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    acknowledged: int = 0
    requeued: int = 0
    seconds: float = 0.0
    recovery_s: list[float] = field(default_factory=list)
    """From the death of a ready engine to the next claim of a job."""
    faults: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Return it for a file of results."""
        times = sorted(self.recovery_s) or [0.0]
        return {
            "jobs": self.jobs,
            "acknowledged": self.acknowledged,
            "kills": sum(self.hits[kind] for kind in KINDS if "stopped" not in kind),
            "hits": dict(self.hits),
            "requeued": self.requeued,
            "seconds": round(self.seconds, 1),
            "recovery_s": {
                "median": round(statistics.median(times), 2),
                "p95": round(times[int(0.95 * (len(times) - 1))], 2),
                "longest": round(times[-1], 2),
            },
            "faults": self.faults,
        }


class _Front:
    """A `wan-mcp stdio` process, spoken to by hand, and its successors."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.acknowledged: set[str] = set()
        self.ready = threading.Event()
        self.unanswered = 0
        self._calls = 0
        self.start()

    def start(self) -> None:
        """Start the process again."""
        self.ready.clear()
        self.unanswered = 0
        paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
        environment = os.environ | self._settings.environment() | {"PYTHONPATH": os.pathsep.join(paths)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "wan_mcp", "stdio"],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        for message in HANDSHAKE:
            self._say(message)

    def submit(self, seed: int) -> None:
        """Ask for a video; the answer is read elsewhere, or never."""
        self._calls += 1
        self.unanswered += 1
        asked = {"prompt": f"number {seed}", "seed": seed, "steps": 4, "num_frames": 5, "wait_s": 0}
        call = {"name": "generate_video", "arguments": asked}
        self._say({"jsonrpc": "2.0", "id": self._calls, "method": "tools/call", "params": call})

    def kill(self) -> None:
        """Kill the process, and start another."""
        self.process.kill()
        self.process.wait()
        self.start()

    def _say(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()
        except OSError:  # it has just died
            return

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if process is not self.process:
                return
            try:
                answer = json.loads(line)
                if answer.get("id") == 0:
                    self.ready.set()
                elif "id" in answer:
                    self.unanswered -= 1
                    self.acknowledged.add(answer["result"]["structuredContent"]["job_id"])
            except (ValueError, KeyError, TypeError):  # an error: no job
                continue


class Upheaval:
    """Kills and stops processes while jobs run."""

    def __init__(self, home: Path, jobs: int, kills: int, seed: int) -> None:
        self._home, self._jobs, self._kills = home, jobs, kills
        self._random = random.Random(seed)
        light = shlex.join([sys.executable, "-m", "devkit.light_engine"])
        none = shlex.join([sys.executable, "-c", "raise SystemExit('this device does not exist')"])
        common = Settings(home=home, queue_limit=100_000, step_deadline_s=3, load_deadline_s=60, engine_idle_s=30)
        common = common.model_copy(update={"device": "cpu", "engine_command": light, "min_free_mb": 1})
        changes: list[dict[str, object]] = [{}, {}, {"device": "cuda:0"}, {"device": "cuda:7", "engine_command": none}]
        self._fronts = [_Front(common.model_copy(update=change)) for change in changes]
        self._marker = f"WAN_MCP_HOME={home}"
        self._report = UpheavalReport()
        self._continues: list[tuple[float, int]] = []

    def rage(self) -> UpheavalReport:
        """Submit, kill and stop until there was enough of all; then wait for every job, and judge."""
        began = time.monotonic()
        database = Database(self._home / "jobs.db")
        try:
            self._upset(database)
            self._drain(JobStore(database))
            self._judge(database)
        finally:
            for front in self._fronts:
                front.process.kill()
                front.process.wait()
            for engine in self._engines():
                engine.kill()
            database.close()
        self._report.seconds = time.monotonic() - began
        return self._report

    def _upset(self, database: Database) -> None:
        submitted = kills = 0
        for front in self._fronts:
            front.ready.wait()
        next_hit = time.monotonic()
        waiting_since: float | None = None
        claims = 0
        while (jobs := self._count(database)) < self._jobs or kills < self._kills:
            front = self._random.choice(self._fronts)
            if jobs < self._jobs * (kills + 1) / self._kills and front.ready.is_set() and front.unanswered < AT_ONCE:
                front.submit(submitted)
                submitted += 1
            if waiting_since is not None and self._claims(database) > claims:
                self._report.recovery_s.append(time.monotonic() - waiting_since)
                waiting_since = None
            self._continue()
            if jobs and kills < self._kills and time.monotonic() >= next_hit and (kind := self._hit(database)):
                self._report.hits[kind] += 1
                kills += "stopped" not in kind
                next_hit = time.monotonic() + self._random.uniform(0.05, MAX_PAUSE_S)
                if kind == "ready engines" and waiting_since is None:
                    waiting_since, claims = time.monotonic(), self._claims(database)
            time.sleep(0.02)

    def _hit(self, database: Database) -> str | None:
        """Hit somebody of a random kind; return the kind, or None if there is nobody."""
        engines: dict[str, list[psutil.Process]] = {}
        for engine in self._engines():
            kind = self._kind_of(engine, database)
            engines.setdefault(kind, []).append(engine)
            if kind == "ready engines":
                engines.setdefault("stopped engines", []).append(engine)
        fronts_too = all(front.ready.is_set() for front in self._fronts)  # the last victim is back
        weights = {
            kind: weight for kind, weight in KINDS.items() if kind in engines or ("fronts" in kind and fronts_too)
        }
        if not weights or ("ready engines" not in engines and self._random.random() > HURRY):
            return None
        [kind] = self._random.choices(list(weights), list(weights.values()))
        if "fronts" in kind:
            front = self._random.choice(self._fronts)
            if kind == "fronts":
                front.kill()
            else:
                self._stop(front.process.pid)
            return kind
        engine = self._random.choice(engines[kind])
        if kind == "stopped engines":
            self._stop(engine.pid)
        else:
            engine.kill()
        return kind

    def _kind_of(self, engine: psutil.Process, database: Database) -> str:
        rows = database.read("SELECT ready FROM engines WHERE pid = ? ORDER BY seq DESC LIMIT 1", engine.pid)
        if rows:
            return "ready engines" if rows[0]["ready"] else "starters"
        try:
            device = engine.environ().get("WAN_MCP_DEVICE", "")
        except psutil.Error:
            return "nobody"
        return "losers" if device in locked_devices(self._home) else "starters"

    def _stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        self._continues.append((time.monotonic() + self._random.uniform(0.5, STOPPED_S), pid))

    def _continue(self, *, all_of_them: bool = False) -> None:
        for at, pid in list(self._continues):
            if all_of_them or time.monotonic() >= at:
                self._continues.remove((at, pid))
                try:
                    os.kill(pid, signal.SIGCONT)
                except ProcessLookupError:  # it was killed meanwhile
                    continue

    def _engines(self) -> list[psutil.Process]:
        """Return the processes of this home that are or want to be engines."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            if "devkit.light_engine" in (process.info["cmdline"] or ()):
                try:
                    if process.environ().get("WAN_MCP_HOME") == str(self._home):
                        found.append(process)
                except psutil.Error:
                    continue
        return found

    def _count(self, database: Database) -> int:
        count: int = database.read("SELECT count(*) FROM jobs")[0][0]
        return count

    def _claims(self, database: Database) -> int:
        claims: int = database.read("SELECT coalesce(sum(attempt), 0) FROM jobs")[0][0]
        return claims

    def _drain(self, store: JobStore) -> None:
        self._continue(all_of_them=True)
        end = time.monotonic() + DRAIN_S
        while store.unfinished() and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(1.0)  # for the last answers

    def _judge(self, database: Database) -> None:
        rows = database.read("SELECT id, deaths FROM jobs")
        jobs = JobStore(database).newest(limit=len(rows) + 1)
        self._report.jobs = len(jobs)
        self._report.requeued = sum(row["deaths"] for row in rows)
        acknowledged = set().union(*(front.acknowledged for front in self._fronts))
        self._report.acknowledged = len(acknowledged)
        faults = [f"job {job_id} was acknowledged and is lost" for job_id in acknowledged - {row["id"] for row in rows}]
        for job in jobs:
            if job.state is not JobState.SUCCEEDED:
                faults.append(f"job {job.id} is {job.state}: {job.error.message if job.error else job.progress}")
            for artifact in job.artifacts:
                file = Path(artifact.path)
                if not file.is_file() or file.stat().st_size != artifact.bytes:
                    faults.append(f"{artifact.uri} is not what its job says")
            if job.state is JobState.SUCCEEDED and len(job.artifacts) != 1:
                faults.append(f"job {job.id} has {len(job.artifacts)} results")
        self._report.faults = faults
