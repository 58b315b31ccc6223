"""The actor of one GPU: the loop of every engine, in a home on its machine, with the jobs that are handed to it.

It runs in a process that Ray starts. The dispatcher calls; an actor never does. Whatever it has made stays in its home
until the dispatcher confirms its receipt, so a dispatcher that is gone for a while costs nothing. An actor that hears
nothing for as long as its lease ends its process: by then its jobs may have been given to others.
"""

import importlib
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wan_mcp import __version__
from wan_mcp.child_environment import drop_secrets, temporary_in
from wan_mcp.cluster.handed_claims import HandedClaims
from wan_mcp.cluster.messages import FileHere, News, Order, Start
from wan_mcp.cluster.pieces import Incoming, below, localized, read_piece
from wan_mcp.engine.worker.loop import Runner, run_engine
from wan_mcp.files import sha256_of
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fatal_signals import FatalSignals
from wan_mcp.jobs.handed import HandedJobs
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.meetings import helpers
from wan_mcp.jobs.orphans import death_in
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import Ended, WorkerRegistry
from wan_mcp.logs import log_to_stderr
from wan_mcp.media.previews import PreviewStore
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact
from wan_mcp.settings import Settings

__all__ = ["EngineActor"]

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often it is checked whether the lease is over, and whether the loop hangs."""
OVERDUE_GRACE_S = 3.0
RETRY_S = 0.5
LEAVE_S = 5.0
"""For how long an actor that is asked to leave lives on if nobody says that its answer arrived."""
DIED = 1


class EngineActor:
    """The actor. Every call is one of `call`, so that every one renews the lease."""

    def __init__(self, start: str) -> None:
        """Begin to serve; `start` is a `Start`."""
        self._start = Start.model_validate_json(start)
        if self._start.version != __version__:
            raise RuntimeError(
                f"this machine has wan-mcp {__version__}, the dispatcher {self._start.version}; install the same"
            )
        drop_secrets()
        self._settings = _settings(self._start)
        log_to_stderr(self._settings.log_level)
        self._device = self._settings.device
        os.environ.update(temporary_in(self._settings.home))
        self._database = Database(self._settings.database)
        self._store, self._rows = JobStore(self._database), WorkerRegistry(self._database)
        self._timings, self._media = Timings(self._database), MediaStore(self._settings.home)
        self._previews = PreviewStore(self._settings.home)
        self._handed = HandedJobs(self._database, self._device)
        self._deaths = self._clear()
        self._incoming: dict[str, Incoming] = {}
        self._more, self._leave = threading.Event(), threading.Event()
        self._answers: dict[int, float] = {}
        self._answer = 0
        self._answer_of_leave: int | None = None
        self._numbers = threading.Lock()
        self._renewed = time.monotonic()
        self._measured = self._timings.latest()
        self._told: str | None = None
        for work in (self._serve, self._watch):
            threading.Thread(target=work, name=work.__name__, daemon=True).start()

    def call(self, seen: int, what: str, *values: Any) -> tuple[int, Any]:
        """Do one thing, and return the number of the answer with what it returns.

        `seen` is the highest number of an answer that the caller has: the lease begins with that answer, because
        the caller's clock has counted from its arrival.
        """
        with self._numbers:
            self._renewed = max(self._renewed, self._answers.get(seen, 0.0))
            self._answers = {number: at for number, at in self._answers.items() if number >= seen}
            if self._answer_of_leave is not None and seen >= self._answer_of_leave:
                os._exit(0)  # the caller knows that this process ends
        result = _CALLS[what](self, *values)
        with self._numbers:
            self._answer += 1
            self._answers[self._answer] = time.monotonic()
            if what == "leave":
                self._answer_of_leave = self._answer
            return self._answer, result

    # What is called.

    def look(self, patience_s: float, wanted: Sequence[str]) -> str:
        """Return the `News` as soon as they are others than the last ones, at the latest after `patience_s`.

        `wanted` are the ids of jobs of which somebody wants previews.
        """
        for job_id in wanted:
            self._previews.look(job_id)
        until = time.monotonic() + patience_s
        watch = self._database.watch()
        try:
            while (news := self._news()) == self._told and (left := until - time.monotonic()) > 0:
                watch.wait(left)
        finally:
            watch.close()
        self._told = news
        if (latest := self._timings.latest()) != self._measured:
            timings = tuple(self._timings.since(self._device, self._measured))
            self._measured = latest
            return News.model_validate_json(news).model_copy(update={"timings": timings}).model_dump_json()
        return news

    def take(self, order: str) -> list[str]:
        """Queue the job of an `Order`, or return the places of the files that are missing for it."""
        wanted = Order.model_validate_json(order)
        if missing := [file.place for file in wanted.files if not self._has(file)]:
            return missing
        if any((job.id, job.attempt) == (wanted.job.id, wanted.job.attempt) for job in self._handed.all()):
            return []  # the call before this one came after all
        plan = localized(wanted.job.plan, self._settings.home)
        self._handed.add(wanted.job.model_copy(update={"plan": plan}))
        self._more.set()
        return []

    def put(self, file: str, offset: int, piece: bytes) -> None:
        """Add the piece of a `FileHere` that begins at `offset`."""
        here = FileHere.model_validate_json(file)
        if offset == 0 and not self._has(here):
            unfinished = self._settings.home / "tmp" / f"incoming-{os.getpid()}"
            self._incoming[here.place] = Incoming(below(self._settings.home, here.place), here, unfinished)
        if here.place in self._incoming:
            self._incoming[here.place].add(offset, piece)

    def read(self, place: str, offset: int, size: int) -> bytes:
        """Return a piece of a file of this home."""
        return read_piece(below(self._settings.home, place), offset, size)

    def cancel(self, job_id: str) -> None:
        """Ask a job to stop."""
        self._store.cancel(job_id)

    def forget(self, ids: Sequence[str]) -> None:
        """Remove jobs and their results: the dispatcher has their outcome, or they are another engine's."""
        for job_id in self._handed.forget(ids):
            self._media.remove_results(job_id)
        for job_id in ids:
            self._deaths.pop(job_id, None)

    def leave(self) -> None:
        """Claim no more, and end the process as soon as a call shows that this one's answer arrived."""
        self._leave.set()
        threading.Timer(LEAVE_S, os._exit, [0]).start()

    # What it says.

    def _news(self) -> str:
        jobs = tuple(self._handed.all())
        row = self._rows.get(self._device)
        helping = self._device in helpers(self._settings.home, self._store.unfinished())
        return News(
            machine=self._machine(),
            loaded=row.loaded if row is not None else LoadedModels(),
            helps=helping,
            jobs=jobs,
            results={each.uri: self._files_of(each) for job in jobs for each in job.artifacts},
            previews={job.id: made for job in jobs if (made := _made(self._previews.path(job.id)))},
            deaths=self._deaths,
            timings=(),
        ).model_dump_json()

    def _machine(self) -> Machine | None:
        return self._rows.machine(self._device)

    def _files_of(self, result: Artifact) -> tuple[FileHere, ...]:
        file = Path(result.path)
        found = sorted(file.parent.glob(f"{file.stem}.*"))
        places = ((each, each.relative_to(self._settings.home).as_posix()) for each in found)
        return tuple(FileHere(place=place, bytes=each.stat().st_size) for each, place in places)

    def _has(self, file: FileHere) -> bool:
        path = below(self._settings.home, file.place)
        if not path.is_file() or path.stat().st_size != file.bytes:
            return False
        return file.sha256 in ("", path.stem) or sha256_of(path) == file.sha256

    def _clear(self) -> dict[str, Death]:
        """Remove what an earlier actor of this device left, and return how its engine died, by its jobs."""
        left = self._handed.all()
        running = [job.id for job in left if job.state is JobState.RUNNING]
        deaths: dict[str, Death] = {}
        if running:
            row = self._rows.last(self._device)
            signals = FatalSignals.of(self._settings, self._device)
            identity = row.identity if row is not None else None
            deaths = dict.fromkeys(running, death_in(self._rows, identity, None, Processes(), signals))
        for job_id in self._handed.forget([job.id for job in left]):
            self._media.remove_results(job_id)
        return deaths

    # What it does by itself.

    def _serve(self) -> None:
        """Run the loop of an engine while there is something to do; between two runs its memory is free."""

        def claims(settings: Settings, store: JobStore, rows: WorkerRegistry) -> HandedClaims:
            return HandedClaims(self._handed, settings.device, store, rows)

        try:
            while not self._leave.is_set():
                self._more.clear()
                run_engine(
                    self._settings, _builder(self._start.runner), lambda: [self._device], leaving=self._leave.is_set,
                    claims=claims,
                )  # fmt: skip
                while not (self._leave.is_set() or self._handed.queued()):
                    self._more.wait(RETRY_S)
        except BaseException:
            log.exception("the engine of %s died", self._start.device)
            os._exit(DIED)

    def _watch(self) -> None:
        """End the process when its lease is over, or its loop hangs."""
        processes = Processes()
        overdue_since: float | None = None
        while True:
            time.sleep(LOOK_S)
            now = time.monotonic()
            if now - self._renewed > self._start.lease_s:
                log.error("nothing was heard for %.0f s; %s ends", now - self._renewed, self._start.device)
                os._exit(DIED)
            row = self._rows.get(self._device)
            if row is None or row.silent_until is None or processes.now() <= row.silent_until:
                overdue_since = None
            elif overdue_since is None:
                overdue_since = now
            elif now - overdue_since > OVERDUE_GRACE_S:
                log.error("the engine of %s made no progress before its deadline", self._start.device)
                if row.identity is not None:
                    self._rows.note_end(self._device, row.identity, Ended.HUNG)
                os._exit(DIED)


_CALLS: dict[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        EngineActor.look,
        EngineActor.take,
        EngineActor.put,
        EngineActor.read,
        EngineActor.cancel,
        EngineActor.forget,
        EngineActor.leave,
    )
}


def _settings(start: Start) -> Settings:
    """Return the settings of an actor's engine.

    All GPUs of a machine share a home, in which each has its own number: so they share weights, packages and jobs.
    CPU actors have separate homes, because a home has one engine for its CPU.
    """
    on_gpu = start.device.startswith("cuda")
    device = _gpu() if on_gpu else "cpu"
    folder = Path(start.folder) if start.folder else Settings().home / "cluster" / start.home_id
    if not on_gpu or device is None:
        folder /= start.device.replace(":", "-")
    return Settings(**start.settings, home=folder, device=device or "cuda:0")


def _gpu() -> str | None:
    """Return the device that Ray has given to this actor, by its number on the machine; None if it has only a name."""
    import ray

    [number] = ray.get_gpu_ids()
    if not str(number).isdecimal():
        return None
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # before torch reads it: each GPU of a machine has its own number
    return f"cuda:{number}"


def _builder(name: str) -> Callable[[Settings], Runner]:
    module, _, function = name.partition(":")
    build: Callable[[Settings], Runner] = getattr(importlib.import_module(module), function)
    return build


def _made(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
