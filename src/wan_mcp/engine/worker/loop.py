"""The life of an engine process: hold the device, claim → run → finish, leave when idle.

It knows the job table and nothing of torch; what runs a plan is a `Runner`, built after the
device's lock is held, because that is what takes seconds. Tests drive this very loop with studios
that misbehave. A job whose weights are not here waits for them beside the line (see `downloads`).
"""

import faulthandler
import logging
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from wan_mcp.engine.worker.acquire_device import acquire_device, try_acquire
from wan_mcp.engine.worker.downloads import Downloads
from wan_mcp.engine.worker.reporter import EngineShutdown, Reporter
from wan_mcp.errors import HomeUnusable, JobCancelled, JobFailed, LeaseLost, OutOfSpace
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database, Watch
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job, JobError
from wan_mcp.settings import Settings

__all__ = ["Runner", "run_engine"]

log = logging.getLogger(__name__)

ALIVE_S = 10.0  # an idle engine's signs of life
IDLE_LOOK_S = 0.2  # how often an idle engine looks up from waiting: for a signal, for the idle time
FULL_DISK_PATIENCE_S = 60.0
STOP_S = 3.0  # in which a download hears that the engine leaves, and gives its job back


class Runner(Protocol):
    """Runs plans on one device."""

    def machine(self) -> Machine | None:
        """What the device can hold, for fronts, which do not know torch; None leaves them to the driver's own tool."""

    def loaded(self) -> LoadedModels:
        """Which models are in memory, for the estimates of fronts."""

    def device_lost(self) -> bool:
        """Whether nothing can be run in this process any more."""

    def needs_download(self, job: Job) -> bool:
        """Whether a job has to wait for a download, and may."""

    def download(self, job: Job, report: Reporter) -> None:
        """Bring the weights that a job lacks; in a thread of its own, while other jobs run.

        Raises:
            JobFailed, JobCancelled, LeaseLost, EngineShutdown: as `run`.
        """

    def run(self, job: Job, report: Reporter) -> str | None:
        """Run a job's plan, hand its results to `report.add`, and give the caption if it makes one.

        Raises:
            JobFailed: it cannot be done; with a code and a reason for people.
            JobCancelled, LeaseLost, EngineShutdown: from `report`, passed on.
        """


@dataclass(frozen=True)
class Outcome:
    """How an attempt at a job ended, as it is written into the job's row."""

    state: JobState
    """A final one, or queued for a job that goes back to its place."""
    error: JobError | None = None
    caption: str | None = None

    def __str__(self) -> str:
        return self.state if self.error is None else f"{self.state}, {self.error.code}"


class DeviceLost(Exception):
    """The engine ends with its job unfinished, as one that was killed: whoever finds it settles the job."""


class _Signals:
    """Remembers that the process was asked to leave; the job finds out at its next step."""

    def __init__(self) -> None:
        self.leaving = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.leaving = True


def run_engine(settings: Settings, build: Callable[[], Runner], resolve: Callable[[str], str]) -> None:
    """Be the engine of `settings.device` until no job has come for `engine_idle_s`.

    Returns at once if another engine holds the device. `resolve` says which device the setting auto stands for.

    Raises:
        HomeUnusable: the home folder or the job table cannot be used.
    """
    began = time.monotonic()
    faulthandler.enable()
    signals = _Signals()
    database = Database(settings.database)
    taken = acquire_device(settings, database, resolve)
    if taken is None:
        database.close()
        return
    lock, device = taken
    settings = settings.model_copy(update={"device": device})
    engine = _Engine(settings, database, lambda: signals.leaving)
    try:
        engine.start(build, began)
        while not signals.leaving:
            engine.serve_until_idle()
            # A front that saw the lock held has left its job to us: look once more after letting go.
            engine.rows.unregister(settings.device)
            lock.release()
            if signals.leaving or not engine.store.has_queued():
                break
            if not try_acquire(lock):
                break
            engine.register()
    finally:
        engine.rows.unregister(settings.device)
        lock.release()
        database.close()


class _Engine:
    """The loop and what it needs."""

    def __init__(self, settings: Settings, database: Database, leaving: Callable[[], bool]) -> None:
        self.settings = settings
        self.store = JobStore(database)
        self.rows = WorkerRegistry(database)
        self._timings = Timings(database)
        self._leaving = leaving
        self._runner: Runner | None = None
        self._downloads = Downloads(self._download)

    def register(self) -> None:
        """Say that this process has the device now."""
        self.rows.register(self.settings.device, time.time() + self.settings.load_deadline_s)
        if self._runner is not None:
            self._sign_of_life()

    def start(self, build: Callable[[], Runner], began: float) -> None:
        """Settle what a dead predecessor left, and get ready. `began` is when the process did (monotonic)."""
        self.register()
        for job in self.store.requeue_orphans(self.settings.device):
            log.warning("an engine died over job %s, which is now %s", job.id, job.state)
        MediaStore(self.settings.home).sweep()
        self._runner = build()
        if (machine := self._runner.machine()) is not None:
            self.rows.record_machine(self.settings.device, machine)
        self._sign_of_life()
        seconds = time.monotonic() - began
        self._timings.record_start(self.settings.device, seconds)
        log.info("engine ready for %s after %.1f s", self.settings.device, seconds)

    def serve_until_idle(self) -> None:
        """Claim and run jobs until none has come for the idle time, or a signal says to leave."""
        watch = self.store.database.watch()
        try:
            while not self._leaving() and (job := self._next(watch)) is not None:
                if self._runner is not None and self._runner.needs_download(job):
                    self._downloads.start(job)
                else:
                    self._run(job)
                self._sign_of_life()
        finally:
            watch.close()
            if self._leaving():
                self._downloads.wait(STOP_S)

    def _next(self, watch: Watch) -> Job | None:
        idle_until = time.monotonic() + self.settings.engine_idle_s
        alive_at = time.monotonic() + ALIVE_S
        while not self._leaving():
            coming = self._downloads.models()
            if self.store.has_queued() and (job := self.store.claim(self.settings.device, except_models=coming)):
                return job
            now = time.monotonic()
            if coming:
                idle_until = now + self.settings.engine_idle_s
            if now >= idle_until:
                return None
            if now >= alive_at:
                self._sign_of_life()
                alive_at = now + ALIVE_S
            watch.wait(min(IDLE_LOOK_S, idle_until - now))
        return None

    def _sign_of_life(self) -> None:
        loaded = self._runner.loaded() if self._runner is not None else None
        self.rows.heartbeat(self.settings.device, time.time() + ALIVE_S + self.settings.step_deadline_s, loaded)

    def _run(self, job: Job) -> None:
        log.info("job %s: %s with %s, attempt %d", job.id, job.plan.task, job.plan.model, job.attempt)
        report = Reporter(job, self.store, self.settings, self._leaving)

        def run(runner: Runner) -> Outcome:
            return Outcome(JobState.SUCCEEDED, caption=runner.run(job, report))

        outcome = self._attempt(job, report, run)
        if outcome is not None and outcome.state is JobState.SUCCEEDED:
            report.keep_timings()

    def _download(self, job: Job) -> None:
        """Bring the weights for a job and put it back into the queue, in a thread of its own."""
        log.info("job %s: the weights of %s come first", job.id, job.plan.model)
        # The engine's signs of life are those of the job that it works on: none of its own here.
        report = Reporter(job, self.store, self.settings, self._leaving, heartbeats=False)

        def download(runner: Runner) -> Outcome:
            runner.download(job, report)
            return Outcome(JobState.QUEUED)

        self._attempt(job, report, download)

    def _attempt(self, job: Job, report: Reporter, work: Callable[[Runner], Outcome]) -> Outcome | None:
        """Do `work` for a job, write its outcome and return it; None if another engine has the job by now."""
        began = time.monotonic()
        outcome = self._outcome_of(job, report, work)
        if outcome is None:
            log.warning("job %s was given to another engine", job.id)
            return None
        self._write(job, outcome)
        log.info("job %s: %s after %.2f s", job.id, outcome, time.monotonic() - began)
        return outcome

    def _outcome_of(self, job: Job, report: Reporter, work: Callable[[Runner], Outcome]) -> Outcome | None:
        """Return the outcome of `work`, whatever it raises; None if another engine has the job by now."""
        runner = self._runner
        assert runner is not None, "jobs are claimed after the engine has started"
        try:
            with report:
                return work(runner)
        except JobCancelled:
            return Outcome(JobState.CANCELLED)
        except LeaseLost:
            return None
        except EngineShutdown:
            return Outcome(JobState.QUEUED)
        except Exception as failure:  # the per-job guard: whatever breaks here costs this job only
            error = self._said_of(failure, job)
            if error.code == "internal" and runner.device_lost():
                raise DeviceLost(f"{self.settings.device} does nothing any more in this process") from failure
            return Outcome(JobState.FAILED, error=error)

    def _said_of(self, failure: Exception, job: Job) -> JobError:
        """What the caller is told of a failure; what only we should know goes to the log."""
        if isinstance(failure, JobFailed):
            return JobError(code=failure.code, message=str(failure))
        if isinstance(failure, OutOfSpace):
            return JobError(code="out_of_space", message=str(failure))
        log.exception("job %s broke", job.id, exc_info=failure)
        return JobError(
            code="internal",
            message=f"The engine met an unexpected {type(failure).__name__}; "
            f"its log {self.settings.log_file} says more. The next job is not affected.",
        )

    def _write(self, job: Job, outcome: Outcome) -> None:
        """Write an outcome, waiting while the disk is full; after that the next engine requeues the job."""
        give_up = time.monotonic() + FULL_DISK_PATIENCE_S
        while True:
            try:
                if outcome.state is JobState.QUEUED:
                    return self.store.release(job)
                return self.store.finish(job, outcome.state, error=outcome.error, caption=outcome.caption)
            except LeaseLost:
                log.warning("a job was given to another engine before its end was written")
                return None
            except (OutOfSpace, HomeUnusable) as error:
                log.error("the end of a job cannot be written yet: %s", error)
                if time.monotonic() >= give_up:
                    raise
            time.sleep(1)
