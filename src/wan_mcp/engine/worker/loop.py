"""The main loop of an engine process: hold the device; claim, run and finish jobs; exit when idle.

It uses the job table and does not import torch. Plans are run by a `Runner`, which is built after the
device's lock is acquired, because building takes seconds, and closed before the lock is released, because
the next engine needs the device's memory. Tests run this loop with runners that misbehave. A job with
missing weights waits for a background download (see `downloads`).
"""

import errno
import faulthandler
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from wan_mcp.engine.worker.acquire_device import acquire_device, try_acquire
from wan_mcp.engine.worker.claims import Claims, ClaimsOf
from wan_mcp.engine.worker.downloads import Downloads
from wan_mcp.engine.worker.reporter import EngineShutdown, Reporter
from wan_mcp.engine.worker.sharing import Sharing
from wan_mcp.engine.worker.stop_signals import StopSignals
from wan_mcp.errors import HomeUnusable, JobCancelled, JobFailed, LeaseLost, OutOfSpace, RankLost, WanError
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database, Watch
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fatal_signals import FatalSignals
from wan_mcp.jobs.fronts import Presence
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.orphans import death_in, living_devices, settle_orphans
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.starts import StartLog
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.kept_shots import remove_shots, sweep_shots
from wan_mcp.media.previews import PreviewStore
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job, JobError
from wan_mcp.settings import Settings
from wan_mcp.text import as_sentence

__all__ = ["Runner", "run_engine"]

log = logging.getLogger(__name__)

ALIVE_S = 10.0  # an idle engine's heartbeats
IDLE_LOOK_S = 0.2  # how often an idle engine checks for signals and the idle timeout
FULL_DISK_PATIENCE_S = 60.0
SHORTAGES_ALLOWED = 5  # attempts at a job; between them
SHORTAGE_PAUSE_S = 0.5
TOO_LARGE = "too_large_for_device"  # the code of a job that does not fit, known before anything is loaded for it
STOP_S = 3.0  # for a download to notice that the engine is shutting down, and release its job


class Runner(Protocol):
    """Runs plans on one device."""

    def machine(self) -> Machine | None:
        """Return the device's capacity for fronts, which import no torch; with None, they query the driver's tool."""

    def loaded(self) -> LoadedModels:
        """Return the models in memory, for the fronts' estimates."""

    def device_lost(self) -> bool:
        """Check whether the device is unusable in this process."""

    def needs_download(self, job: Job) -> bool:
        """Check whether a job needs a download, and downloads are allowed."""

    def download(self, job: Job, report: Reporter) -> None:
        """Download a job's missing weights, in a separate thread, while other jobs run.

        Raises:
            JobFailed, JobCancelled, LeaseLost, EngineShutdown: as `run`.
        """

    def run(self, job: Job, report: Reporter) -> str | None:
        """Run a job's plan, pass its results to `report.add`, and return the caption, if any.

        Raises:
            JobFailed: the job failed; with a code and a readable reason.
            JobCancelled, LeaseLost, EngineShutdown: propagated from `report`.
        """

    def close(self) -> None:
        """End all child processes and threads, and free the device's memory. A closed runner is not used again."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of an attempt at a job, as written to the job's row."""

    state: JobState
    """A final state, or queued for a job that returns to its place in the queue."""
    error: JobError | None = None
    caption: str | None = None
    too_large: bool = False
    """Whether it returns to the queue because another device may have the memory for it."""

    def __str__(self) -> str:
        return self.state if self.error is None else f"{self.state}, {self.error.code}"


def _is_shortage(failure: Exception) -> bool:
    """Check whether the machine has no thread, descriptor or process to spare, which is not the job's fault."""
    if isinstance(failure, OSError):
        return failure.errno in (errno.EAGAIN, errno.EMFILE, errno.ENFILE)
    return isinstance(failure, RuntimeError) and "can't start new thread" in str(failure)


class DeviceLost(Exception):
    """The engine exits with its job unfinished, as if killed; the next process to notice settles the job."""


def run_engine(
    settings: Settings, build: Callable[[Settings], Runner], auto_devices: Callable[[], Sequence[str]], *,
    only: str | None = None, leaving: Callable[[], bool] | None = None, claims: ClaimsOf | None = None,
) -> None:  # fmt: skip
    """Run the engine of `settings.device` until it has been idle for `engine_idle_s`.

    Returns immediately if another engine holds the device. `build` returns the runner for settings whose device is
    that of this engine; `auto_devices` returns the devices that the setting auto means. With `only`, the job of that id
    is served and no other. `leaving` is asked in place of signals, and `claims` makes what is claimed from.

    Raises:
        HomeUnusable: the home folder or the job table cannot be used.
    """
    began = time.monotonic()
    faulthandler.enable()
    leaving = leaving or StopSignals().came
    database = Database(settings.database)
    taken = acquire_device(settings, database, auto_devices)
    if taken is None:
        database.close()
        return
    lock, device = taken
    settings = settings.model_copy(update={"device": device})
    engine = _Engine(settings, database, lambda: build(settings), leaving, claims or partial(Claims, only=only))
    try:
        engine.start(began)
        while not leaving():
            engine.serve_until_idle()
            engine.close()  # first: an engine that starts now would find the device's memory in use
            # A front that found the lock held relies on this engine for its job: check again after releasing the lock.
            engine.rows.unregister(settings.device)
            lock.release()
            if leaving() or not database.in_place() or not engine.claims.are_possible():
                break
            if not try_acquire(lock):
                break
            engine.open()
    except BaseException:
        with suppress(WanError):
            engine.rows.crash(device)  # evidence, if a job was running
        raise
    finally:
        engine.close()
        engine.fatal_signals.stop()
        engine.rows.unregister(settings.device)
        lock.release()
        database.close()


class _Engine:
    """The loop and its state."""

    def __init__(
        self, settings: Settings, database: Database, build: Callable[[], Runner], leaving: Callable[[], bool],
        claims: ClaimsOf,
    ) -> None:  # fmt: skip
        self.settings = settings
        self.store = JobStore(database)
        self.rows = WorkerRegistry(database)
        self.claims = claims(settings, self.store, self.rows)
        self._timings = Timings(database)
        self._sharing = Sharing(settings, self.store, self.rows, leaving, self.claims.are_possible)
        self._build = build
        self._leaving = leaving
        self._runner: Runner | None = None
        self._downloads = Downloads(self._download)
        self._living: Callable[[], list[str]] = list
        self.fatal_signals = FatalSignals.of(settings, settings.device)

    def start(self, began: float) -> None:
        """Settle a dead predecessor's job, and open the device. `began` is the process's start (monotonic)."""
        processes = Processes()
        fronts = Presence(self.settings.home, "").others

        def devices() -> list[str]:
            others = living_devices(self.settings.home, self.rows, processes, fronts())
            return [self.settings.device, *others]

        def death_of(engine: str | None) -> Death:
            return death_in(self.rows, engine, None, processes, FatalSignals.of(self.settings, self.settings.device))

        self._living = devices
        settle_orphans(self.store, self.settings.device, death_of, devices)
        self.fatal_signals.watch()
        self.open()
        StartLog.leave(self.settings.log_file)
        seconds = time.monotonic() - began
        self._timings.record_start(self.settings.device, seconds)
        log.info("engine ready for %s after %.1f s", self.settings.device, seconds)

    def open(self) -> None:
        """Register this process as the engine of the device, and build the runner."""
        self.rows.register(self.settings.device, time.monotonic() + self.settings.load_deadline_s)
        MediaStore(self.settings.home).sweep()
        unfinished = self.store.unfinished()
        running = {job.id for job in unfinished if job.state is JobState.RUNNING}
        PreviewStore(self.settings.home).sweep({job.id for job in unfinished}, running)
        sweep_shots(self.settings.home, {job.id for job in unfinished})
        self._sharing.sweep()
        self._runner = self._build()
        if (machine := self._runner.machine()) is not None:
            self.rows.record_machine(self.settings.device, machine)
        self._sign_of_life()

    def close(self) -> None:
        """Close the runner. An error is only logged: the end of the process frees the rest."""
        if self._runner is None:
            return
        runner, self._runner = self._runner, None
        with suppress(WanError):  # a job table that is gone keeps no memory from being freed
            self.rows.heartbeat(self.settings.device, time.monotonic() + self.settings.load_deadline_s)
        try:
            runner.close()
        except Exception:
            log.exception("the engine did not close in good order")

    def serve_until_idle(self) -> None:
        """Claim and run jobs until the idle timeout, or until a signal requests shutdown."""
        watch = self.store.database.watch()
        try:
            while not self._leaving() and (job := self._next(watch)) is not None:
                self._serve(job)
                self._sign_of_life()
        finally:
            watch.close()
            if self._leaving():
                self._downloads.wait(STOP_S)

    def _next(self, watch: Watch) -> Job | None:
        idle_until = time.monotonic() + self.settings.engine_idle_s
        alive_at = time.monotonic() + ALIVE_S
        while not self._leaving():
            if not self.store.database.in_place():
                log.warning("the job table was removed or replaced; leaving, for an engine that serves the new one")
                return None
            coming = self._downloads.models()
            if (job := self.claims.next(self._loaded(), coming)) is not None:
                return job
            if self.claims.are_done and not coming:
                return None
            helped = self._sharing.use_idle_time(self._runner)
            now = time.monotonic()
            if coming or helped:
                idle_until = now + self.settings.engine_idle_s
            if now >= idle_until:
                return None
            if now >= alive_at:
                self._sign_of_life()
                alive_at = now + ALIVE_S
            watch.wait(min(IDLE_LOOK_S, idle_until - now))
        return None

    def _loaded(self) -> LoadedModels:
        return self._runner.loaded() if self._runner is not None else LoadedModels()

    def _sign_of_life(self) -> None:
        until = time.monotonic() + ALIVE_S + self.settings.step_deadline_s
        self.rows.heartbeat(self.settings.device, until, self._loaded())

    def _serve(self, job: Job) -> None:
        """Run a job, or download its weights first."""
        assert self._runner is not None, "jobs are claimed after the engine has started"
        try:
            report = Reporter(job, self.store, self.settings, self._leaving)
            needs_download = self._runner.needs_download(job)
        except (OutOfSpace, HomeUnusable):
            raise
        except Exception as failure:  # nothing that a plan says may cost another job
            self._write(job, Outcome(JobState.FAILED, error=self._said_of(failure, job)))
            return
        if needs_download:
            self._downloads.start(job)
        else:
            self._run(job, report)

    def _run(self, job: Job, report: Reporter) -> None:
        log.info("job %s: %s with %s, attempt %d", job.id, job.plan.task, job.plan.model, job.attempt)

        def run(runner: Runner) -> Outcome:
            return Outcome(JobState.SUCCEEDED, caption=self._sharing.run(job, report, runner, meeting))

        with self._sharing.meeting(job, self._runner) as meeting:
            outcome = self._attempt(job, report, run)
        if outcome is not None and outcome.state is JobState.SUCCEEDED:
            report.keep_timings()

    def _download(self, job: Job) -> None:
        """Download the weights for a job and requeue it, in a separate thread."""
        log.info("job %s: downloading the weights of %s first", job.id, job.plan.model)
        # The engine's heartbeats come from the job that it runs, so this job sends none.
        report = Reporter(job, self.store, self.settings, self._leaving, heartbeats=False)

        def download(runner: Runner) -> Outcome:
            runner.download(job, report)
            return Outcome(JobState.QUEUED)

        self._attempt(job, report, download)

    def _attempt(self, job: Job, report: Reporter, work: Callable[[Runner], Outcome]) -> Outcome | None:
        """Run `work` for a job, write its outcome and return it; None if another engine now has the job."""
        began = time.monotonic()
        try:
            outcome = self._outcome_of(job, report, work)
            if outcome is None:
                log.warning("job %s was given to another engine", job.id)
                return None
            self._write(job, outcome)
            if outcome.state.final:
                remove_shots(self.settings.home, job.id)
        finally:
            report.previews.remove()  # after the row says so: until then, fronts look
        log.info("job %s: %s after %.2f s", job.id, outcome, time.monotonic() - began)
        return outcome

    def _outcome_of(self, job: Job, report: Reporter, work: Callable[[Runner], Outcome]) -> Outcome | None:
        """Return the outcome of `work`, whatever it raises; None if another engine now has the job."""
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
        except RankLost as lost:
            if runner.device_lost():
                raise DeviceLost from lost
            return Outcome(JobState.QUEUED)
        except Exception as failure:  # the per-job guard: an unexpected error fails this job only
            if _is_shortage(failure) and job.attempt < SHORTAGES_ALLOWED:
                log.warning("job %s goes back to the queue: %s", job.id, failure)
                time.sleep(SHORTAGE_PAUSE_S * job.attempt)
                return Outcome(JobState.QUEUED)
            error = self._said_of(failure, job)
            if error.code == TOO_LARGE and self.claims.may_go_elsewhere(job, self._living()):
                log.warning("job %s goes back to the queue, for a device with more memory: %s", job.id, failure)
                return Outcome(JobState.QUEUED, too_large=True)
            if error.code == "internal" and runner.device_lost():
                raise DeviceLost(f"{self.settings.device} is unusable in this process") from failure
            return Outcome(JobState.FAILED, error=error)

    def _said_of(self, failure: Exception, job: Job) -> JobError:
        """Return the error for the caller; internal details go to the log."""
        if isinstance(failure, JobFailed):
            return JobError(code=failure.code, message=str(failure))
        if isinstance(failure, OutOfSpace):
            return JobError(code="out_of_space", message=str(failure))
        if isinstance(failure, HomeUnusable):
            return JobError(code="home_unusable", message=as_sentence(failure))
        if _is_shortage(failure):
            what = failure.strerror if isinstance(failure, OSError) else failure
            words = f"The machine was short of something {job.attempt} times ({what}): of threads, open files or "
            words += "processes. Close other programs, or raise its limits; try again."
            return JobError(code="machine_short", message=words)
        log.exception("job %s failed unexpectedly", job.id, exc_info=failure)
        return JobError(
            code="internal",
            message=f"Unexpected {type(failure).__name__} in the engine; "
            f"see its log {self.settings.log_file}. Other jobs are not affected.",
        )

    def _write(self, job: Job, outcome: Outcome) -> None:
        """Write an outcome, waiting while the disk is full; after that the next engine requeues the job."""
        give_up = time.monotonic() + FULL_DISK_PATIENCE_S
        while True:
            try:
                if outcome.state is JobState.QUEUED:
                    return self.store.release(job, too_large_for=self.settings.device if outcome.too_large else None)
                return self.store.finish(job, outcome.state, error=outcome.error, caption=outcome.caption)
            except LeaseLost:
                log.warning("a job was given to another engine before its outcome was written")
                return None
            except (OutOfSpace, HomeUnusable) as error:
                log.error("the outcome of a job cannot be written yet: %s", error)
                if time.monotonic() >= give_up:
                    raise
            time.sleep(1)
