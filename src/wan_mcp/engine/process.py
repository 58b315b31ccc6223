"""The life of an engine process: hold the device, claim → run → finish, leave when idle.

It knows the job table and nothing of torch; what runs a plan is a `Studio`, built after the
device's lock is held, because that is what takes seconds. Tests drive this very loop with studios
that misbehave.
"""

import faulthandler
import logging
import signal
import time
from collections.abc import Callable
from types import FrameType
from typing import Protocol

from filelock import Timeout

from wan_mcp.engine.reporter import EngineLeaves, Reporter
from wan_mcp.errors import HomeUnusable, JobCancelled, JobFailed, JobLost, OutOfSpace
from wan_mcp.jobs.database import Database, Watch
from wan_mcp.jobs.engines import EngineRows, engine_lock
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.machine import Machine
from wan_mcp.media.store import MediaStore
from wan_mcp.settings import Settings
from wan_mcp.specs import Job, JobError, JobState

__all__ = ["Studio", "run_engine"]

log = logging.getLogger(__name__)

# Fronts take the lock for an instant to see whether an engine lives; a starting engine outwaits that.
LOCK_PATIENCE_S = 3.0
ALIVE_S = 10.0  # an idle engine's signs of life
IDLE_LOOK_S = 0.2  # how often an idle engine looks up from waiting: for a signal, for the idle time
FULL_DISK_PATIENCE_S = 60.0


class Studio(Protocol):
    """Runs plans on one device."""

    def machine(self) -> Machine | None:
        """What the device can hold, for fronts, which do not know torch; None leaves them to the driver's own tool."""

    def run(self, job: Job, report: Reporter) -> str | None:
        """Run a job's plan, hand its results to `report.add`, and give the caption if it makes one.

        Raises:
            JobFailed: it cannot be done; with a code and a reason for people.
            JobCancelled, JobLost, EngineLeaves: from `report`, passed on.
        """


class _Signals:
    """Remembers that the process was asked to leave; the job finds out at its next step."""

    def __init__(self) -> None:
        self.leaving = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._leave)

    def _leave(self, number: int, frame: FrameType | None) -> None:
        self.leaving = True


def run_engine(settings: Settings, build: Callable[[], Studio]) -> None:
    """Be the engine of `settings.device` until no job has come for `engine_idle_s`.

    Returns at once if another engine holds the device.

    Raises:
        HomeUnusable: the home folder or the job table cannot be used.
    """
    began = time.monotonic()
    faulthandler.enable()
    signals = _Signals()
    database = Database(settings.database)
    lock = engine_lock(settings.home, settings.device)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        log.info("another engine holds %s", settings.device)
        return
    engine = _Engine(settings, database, lambda: signals.leaving)
    try:
        engine.start(build, began)
        while not signals.leaving:
            engine.serve_until_idle()
            # A front that saw the lock held has left its job to us: look once more after letting go.
            engine.rows.leave(settings.device)
            lock.release()
            if signals.leaving or not engine.store.has_queued():
                break
            try:
                lock.acquire(timeout=LOCK_PATIENCE_S)
            except Timeout:
                break
            engine.register()
    finally:
        engine.rows.leave(settings.device)
        lock.release()
        database.close()


class _Engine:
    """The loop and what it needs."""

    def __init__(self, settings: Settings, database: Database, leaving: Callable[[], bool]) -> None:
        self.settings = settings
        self.store = JobStore(database)
        self.rows = EngineRows(database)
        self._timings = Timings(database)
        self._leaving = leaving
        self._studio: Studio | None = None

    def register(self) -> None:
        """Say that this process has the device now."""
        self.rows.register(self.settings.device, time.time() + self.settings.load_deadline_s)

    def start(self, build: Callable[[], Studio], began: float) -> None:
        """Settle what a dead predecessor left, and get ready. `began` is when the process did (monotonic)."""
        self.register()
        for job in self.store.bury(self.settings.device):
            log.warning("an engine died over job %s, which is now %s", job.id, job.state)
        MediaStore(self.settings.home).sweep()
        self._studio = build()
        if (machine := self._studio.machine()) is not None:
            self.rows.tell_machine(self.settings.device, machine)
        self._sign_of_life()
        seconds = time.monotonic() - began
        self._timings.record_start(self.settings.device, seconds)
        log.info("engine ready for %s after %.1f s", self.settings.device, seconds)

    def serve_until_idle(self) -> None:
        """Claim and run jobs until none has come for the idle time, or a signal says to leave."""
        watch = self.store.database.watch()
        try:
            while not self._leaving() and (job := self._next(watch)) is not None:
                self._run(job)
                self._sign_of_life()
        finally:
            watch.close()

    def _next(self, watch: Watch) -> Job | None:
        idle_until = time.monotonic() + self.settings.engine_idle_s
        alive_at = time.monotonic() + ALIVE_S
        while not self._leaving():
            if self.store.has_queued() and (job := self.store.claim(self.settings.device)):
                return job
            now = time.monotonic()
            if now >= idle_until:
                return None
            if now >= alive_at:
                self._sign_of_life()
                alive_at = now + ALIVE_S
            watch.wait(min(IDLE_LOOK_S, idle_until - now))
        return None

    def _sign_of_life(self) -> None:
        self.rows.alive(self.settings.device, time.time() + ALIVE_S + self.settings.step_deadline_s)

    def _run(self, job: Job) -> None:
        log.info("job %s: %s with %s, attempt %d", job.id, job.plan.task, job.plan.model, job.attempt)
        caption, error, state = None, None, JobState.FAILED
        began = time.monotonic()
        try:
            with Reporter(job, self.store, self.settings, self._leaving) as report:
                caption = self._studio.run(job, report) if self._studio else None
            state = JobState.SUCCEEDED
        except JobCancelled:
            state = JobState.CANCELLED
        except JobLost:
            log.warning("job %s was given to another engine", job.id)
            return
        except EngineLeaves:
            log.info("job %s goes back to the queue: this engine was told to leave", job.id)
            self._insist(lambda: self.store.release(job))
            return
        except JobFailed as failure:
            error = JobError(code=failure.code, message=str(failure))
        except OutOfSpace as failure:
            error = JobError(code="out_of_space", message=str(failure))
        except Exception as failure:  # the per-job guard: whatever breaks here costs this job only
            log.exception("job %s broke", job.id)
            error = JobError(
                code="internal",
                message=f"The engine met an unexpected {type(failure).__name__}; "
                f"its log {self.settings.log_file} says more. The next job is not affected.",
            )
        self._insist(lambda: self.store.finish(job, state, error=error, caption=caption))
        log.info("job %s: %s after %.2f s", job.id, state, time.monotonic() - began)
        if state is JobState.SUCCEEDED:
            report.keep_timings()

    def _insist(self, write: Callable[[], None]) -> None:
        """Write the end of a job though the disk may be full for a while; then leave it to the next engine."""
        give_up = time.monotonic() + FULL_DISK_PATIENCE_S
        while True:
            try:
                return write()
            except JobLost:
                log.warning("a job was given to another engine before its end was written")
                return None
            except (OutOfSpace, HomeUnusable) as error:
                log.error("the end of a job cannot be written yet: %s", error)
                if time.monotonic() >= give_up:
                    raise
            time.sleep(1)
