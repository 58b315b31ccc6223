"""Many jobs through several fronts, while engines and fronts of every kind are killed and stopped at random.

Unlike `storm`, it does not choose whom to hit by the job: starters, losers of the start race, ready engines, ranks of
shared jobs and fronts die at any moment. The fronts differ: two have the same settings, so that their engines race; two
have several devices, some of them in common, and share jobs; one of these serves HTTP, and pictures are sent to it; one
cannot start engines at all, and its jobs run all the same; one asks for a device that is not there. Two run a command
for each job that has ended. Every job must succeed, unless its cancellation was asked for: none deserves to fail but
those for the device that is not there, because a front that can start engines always runs. The command must have been
run for each job of its fronts.
"""

import json
import os
import random
import shlex
import signal
import statistics
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from devkit.upheaval_fronts import Front, HttpFront, StdioFront
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import locked_devices
from wan_mcp.jobs.devices import DeviceNames
from wan_mcp.jobs.meetings import helpers
from wan_mcp.jobs.other_devices import asked_devices
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.settings import Settings

__all__ = ["Upheaval", "UpheavalReport"]

KINDS = {
    "starters": 3,
    "losers": 10,
    "ready engines": 6,
    "first ranks": 10,
    "helping ranks": 10,
    "fronts": 1,
    "stopped engines": 0.5,
    "stopped fronts": 0.2,
}
"""Whom to hit, and how often."""
READY = ("ready engines", "first ranks", "helping ranks")
AT_ONCE = 8  # calls of a front without an answer
MAX_PAUSE_S = 1.6  # between two hits
HURRY = 0.02  # of the looks at a machine without a ready engine, those that hit all the same
RANK_HITS = 20  # at shared jobs, which come one by one when the rest is over
LONG = {"steps": 50, "count": 4, "num_frames": 5, "wait_s": 0}  # some seconds
RANKS_S = 900.0  # at most, for all of them
STOPPED_S = 4.0  # longer than the deadline of a step below, and than a front's patience
DRAIN_S = 400.0
SUBMITS = (2, 2, 6, 6, 2, 1)  # how much each front asks for: only jobs for several devices can be shared
MISSING = "cuda:7"
NOT_THERE = "this device does not exist"
REFUSED = 200  # calls without a job, before something is wrong with all of them
CANCELLED = 0.03  # of the jobs
MODELS = ("wan-mini", "wan2.1-t2v-1.3b")  # of videos; only their names and sizes matter here


@dataclass
class UpheavalReport:
    """What was done, and what came of it."""

    hits: Counter[str] = field(default_factory=Counter)
    jobs: int = 0
    acknowledged: int = 0
    cancelled: int = 0
    failed: int = 0
    """Jobs for a device that no engine can have, as they deserve."""
    shared: int = 0
    """Attempts at jobs by several engines together."""
    told: int = 0
    """Jobs that have ended and of which the command was told."""
    told_twice: int = 0
    by_device: Counter[str] = field(default_factory=Counter)
    requeued: int = 0
    seconds: float = 0.0
    recovery_s: list[float] = field(default_factory=list)
    """From the death of an engine that ran a job to the job's next attempt."""
    faults: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """Return it for a file of results."""
        times = sorted(self.recovery_s) or [0.0]
        return {
            "jobs": self.jobs,
            "acknowledged": self.acknowledged,
            "cancelled": self.cancelled,
            "failed_deservedly": self.failed,
            "shared": self.shared,
            "told": self.told,
            "told_twice": self.told_twice,
            "by_device": dict(sorted(self.by_device.items())),
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


class Upheaval:
    """Kills and stops processes while jobs run."""

    def __init__(self, home: Path, jobs: int, kills: int, seed: int) -> None:
        self._home, self._jobs, self._kills = home, jobs, kills
        self._random = random.Random(seed)
        light = shlex.join([sys.executable, "-m", "devkit.light_engine"])
        none = shlex.join([sys.executable, "-c", f"raise SystemExit('{NOT_THERE}')"])
        common = Settings(home=home, queue_limit=100_000, step_deadline_s=3, load_deadline_s=60, engine_idle_s=30)
        shared = {"device": "cpu", "engine_command": light, "min_free_mb": 1, "max_download_gb": 1000}
        common = common.model_copy(update=shared | {"gpus_per_job": "all"})
        self._notices = home / "notices"
        tell = shlex.join(["sh", "-c", f"cat >> {shlex.quote(str(self._notices))}"])
        kinds: list[tuple[type[Front], dict[str, object], str]] = [
            (StdioFront, {}, tell),
            (StdioFront, {"output_dir": home / "results"}, ""),
            (StdioFront, {"device": "cuda:0,1"}, ""),
            (HttpFront, {"device": "auto"}, tell),
            (StdioFront, {"device": "auto", "engine_command": none}, ""),
            (StdioFront, {"device": MISSING, "engine_command": none}, ""),
        ]
        self._fronts = [kind(common.model_copy(update=change), tells) for kind, change, tells in kinds]
        self._report = UpheavalReport()
        self._sharing = self._fronts[2]
        self._continues: list[tuple[float, int]] = []
        self._meetings: set[str] = set()
        self._hit_jobs: dict[str, tuple[int, float]] = {}
        """The attempt at each job whose engine was killed, and when."""

    def rage(self) -> UpheavalReport:
        """Submit, kill and stop until there was enough of all; then wait for every job, and judge."""
        began = time.monotonic()
        database = Database(self._home / "jobs.db")
        try:
            self._upset(database)
            self._drain(JobStore(database), database)
            self._upset_ranks(database)
            self._drain(JobStore(database), database)
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
        while (jobs := self._count(database)) < self._jobs or kills < self._kills:
            if submitted > REFUSED and not jobs:
                raise RuntimeError("no call starts a job")
            [front] = self._random.choices(self._fronts, SUBMITS)
            due = jobs < self._jobs * (kills + 1) / self._kills
            if due and front.ready.is_set() and front.unanswered < AT_ONCE:
                front.call(*self._asked(front, submitted))
                submitted += 1
                if self._random.random() < CANCELLED:
                    self._cancel(front, database)
            self._note_recoveries(database)
            self._continue()
            self._meetings |= {file.parent.name for file in self._home.glob("meetings/*/begun.json")}
            if jobs and kills < self._kills and time.monotonic() >= next_hit and (kind := self._hit(database)):
                self._report.hits[kind] += 1
                kills += "stopped" not in kind
                next_hit = time.monotonic() + self._random.uniform(0.05, MAX_PAUSE_S)
            time.sleep(0.02)

    def _upset_ranks(self, database: Database) -> None:
        """Kill one rank after the other of jobs that engines share."""
        store, hits, number = JobStore(database), 0, self._count(database)
        end = time.monotonic() + RANKS_S
        while hits < RANK_HITS and time.monotonic() < end:
            unfinished = store.unfinished()
            if not unfinished and self._sharing.ready.is_set() and not self._sharing.unanswered:
                number += 1
                self._sharing.call("generate_video", {"prompt": f"shared {number}", "seed": number, **LONG})
            helping = helpers(self._home, unfinished)
            if helping:
                [(helper, job), *_] = helping.items()
                kind, device = self._random.choice([("helping ranks", helper), ("first ranks", job.device)])
                if self._kill_on(device, unfinished, database):
                    hits += 1
                    self._report.hits[kind] += 1
                    self._meetings.add(f"{job.id}-{job.attempt}")
                while helpers(self._home, store.unfinished()):
                    time.sleep(0.02)
            self._note_recoveries(database)
            time.sleep(0.02)

    def _kill_on(self, device: str | None, unfinished: list[Job], database: Database) -> bool:
        """Kill the engine of a device; return whether there is one."""
        pids = database.read("SELECT pid FROM engines WHERE device = ? ORDER BY seq DESC LIMIT 1", device)
        found = [engine for engine in self._engines() if pids and engine.pid == pids[0]["pid"]]
        for engine in found:
            self._kill(engine, device, unfinished)
        return bool(found)

    def _kill(self, engine: psutil.Process, device: str | None, unfinished: list[Job]) -> None:
        """Kill an engine, and note when the job was lost that it ran."""
        engine.kill()
        lost = (job for job in unfinished if job.state is JobState.RUNNING and job.device == device)
        self._hit_jobs |= {job.id: (job.attempt, time.monotonic()) for job in lost}

    def _cancel(self, front: Front, database: Database) -> None:
        waiting = [job.id for job in JobStore(database).unfinished() if job.id in front.acknowledged]
        if waiting:
            front.cancel(self._random.choice(waiting))

    def _note_recoveries(self, database: Database) -> None:
        for job_id, (attempt, since) in list(self._hit_jobs.items()):
            [row] = database.read("SELECT attempt, state FROM jobs WHERE id = ?", job_id)
            if row["attempt"] > attempt:
                self._report.recovery_s.append(time.monotonic() - since)
            if row["attempt"] > attempt or row["state"] not in ("queued", "running"):
                del self._hit_jobs[job_id]

    def _asked(self, front: Front, number: int) -> tuple[str, dict[str, Any]]:
        """Return the tool and the arguments of a job."""
        asked: dict[str, Any] = {"prompt": f"number {number}", "seed": number, "steps": 4, "wait_s": 0}
        kind = self._random.random()
        if isinstance(front, HttpFront) and kind < 0.3:
            return "caption_image", {"image": "", "wait_s": 0}
        if kind < 0.3:
            return "generate_image", asked
        return "generate_video", asked | {"num_frames": 5, "model": self._random.choice(MODELS)}

    def _hit(self, database: Database) -> str | None:
        """Hit somebody of a random kind; return the kind, or None if there is nobody."""
        engines: dict[str, list[psutil.Process]] = {}
        unfinished = JobStore(database).unfinished()
        helping = helpers(self._home, unfinished)
        first = {job.device: "first ranks" for job in helping.values()}
        ranks: dict[str | None, str] = {**first, **dict.fromkeys(helping, "helping ranks")}
        devices = {row["pid"]: row["device"] for row in database.read("SELECT pid, device FROM engines ORDER BY seq")}
        for engine in self._engines():
            kind = self._kind_of(engine, database)
            if kind == "ready engines":
                engines.setdefault("stopped engines", []).append(engine)
                kind = ranks.get(devices.get(engine.pid), kind)
            engines.setdefault(kind, []).append(engine)
        fronts_too = all(front.ready.is_set() for front in self._fronts)  # the last victim is back
        weights = {
            kind: weight for kind, weight in KINDS.items() if kind in engines or ("fronts" in kind and fronts_too)
        }
        if not weights or (not any(kind in engines for kind in READY) and self._random.random() > HURRY):
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
            self._kill(engine, devices.get(engine.pid), unfinished)
        return kind

    def _kind_of(self, engine: psutil.Process, database: Database) -> str:
        rows = database.read("SELECT ready FROM engines WHERE pid = ? ORDER BY seq DESC LIMIT 1", engine.pid)
        if rows:
            return "ready engines" if rows[0]["ready"] else "starters"
        try:
            setting = engine.environ().get("WAN_MCP_DEVICE", "")
        except psutil.Error:
            return "nobody"
        device = DeviceNames(database).of(setting)[0] if setting else ""
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

    def _drain(self, store: JobStore, database: Database) -> None:
        self._continue(all_of_them=True)
        end = time.monotonic() + DRAIN_S
        while (store.unfinished() or self._untold(database)) and time.monotonic() < end:
            time.sleep(0.2)
        time.sleep(1.0)  # for the last answers

    def _untold(self, database: Database) -> int:
        count: int = database.read("SELECT count(*) FROM jobs WHERE notify != ''")[0][0]
        return count

    def _judge(self, database: Database) -> None:
        rows = database.read("SELECT id, deaths, device FROM jobs")
        jobs = JobStore(database).newest(limit=len(rows) + 1)
        report = self._report
        report.jobs, report.shared = len(jobs), len(self._meetings)
        report.requeued = sum(row["deaths"] for row in rows)
        report.by_device = Counter(row["device"] for row in rows if row["device"] is not None)
        acknowledged = set().union(*(front.acknowledged for front in self._fronts))
        cancelled = set().union(*(front.cancelled for front in self._fronts))
        report.acknowledged = len(acknowledged)
        faults = [f"job {job_id} was acknowledged and is lost" for job_id in acknowledged - {row["id"] for row in rows}]
        for job in jobs:
            if job.state is JobState.CANCELLED and job.id in cancelled:
                report.cancelled += 1
            elif _deserves_to_fail(job):
                report.failed += 1
            elif job.state is not JobState.SUCCEEDED:
                faults.append(f"job {job.id} is {job.state}: {job.error.message if job.error else job.progress}")
            faults += [f"{path} is not what its job says" for path in _wrong_files(job)]
            results = 0 if isinstance(job.plan, CaptionPlan) else job.plan.count
            if job.state is JobState.SUCCEEDED and len(job.artifacts) != results:
                faults.append(f"job {job.id} has {len(job.artifacts)} results")
        faults += [f"{file} is half a file" for file in self._home.rglob("*.part*")]
        report.faults = faults + self._untold_jobs(database)

    def _untold_jobs(self, database: Database) -> list[str]:
        """Return a sentence for each job of whose end the command was not told."""
        told = Counter[str]()
        decoder, text = json.JSONDecoder(), self._notices.read_text(encoding="utf-8")
        while text:
            notice, end = decoder.raw_decode(text)
            told[notice["data"]["job_id"]] += 1
            text = text[end:]
        self._report.told = len(told)
        self._report.told_twice = sum(times > 1 for times in told.values())
        wanted = set().union(*(front.acknowledged for front in self._fronts if front.tells))
        faults = [f"nobody was told that job {job_id} has ended" for job_id in wanted - set(told)]
        return faults + [f"{count} notices are not sent" for count in filter(None, [self._untold(database)])]


def _wrong_files(job: Job) -> list[str]:
    """Return the files of a job that are not whole."""
    files = [(path, each.bytes) for each in job.artifacts for path in (each.path, each.saved_as) if path is not None]
    return [path for path, size in files if not Path(path).is_file() or Path(path).stat().st_size != size]


def _deserves_to_fail(job: Job) -> bool:
    """Check whether a job has failed because its caller named the device that is not there, for that reason."""
    reason = job.error.message if job.state is JobState.FAILED and job.error is not None else ""
    return asked_devices(job) == (MISSING,) and NOT_THERE in reason
