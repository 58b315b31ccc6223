"""Progress reports of a running job, and its checks for cancellation.

The working thread only records its position; a separate thread writes the latest position to the
row and reads the cancel flag, so that no denoising step waits for a disk. Only the working thread's
records count as heartbeats: a hanging job sends none, although the writing thread still runs.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from wan_mcp.engine.worker.eta import ProgressEstimator
from wan_mcp.engine.worker.output_folder import OutputFolder
from wan_mcp.engine.worker.previews import Previews
from wan_mcp.engine.worker.signatures import Signatures
from wan_mcp.errors import JobCancelled, LeaseLost, WanError
from wan_mcp.jobs.reviews import begin_review, replace_artifacts
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Artifact, Job, Progress
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.settings import Settings

__all__ = ["EngineShutdown", "Reporter"]

log = logging.getLogger(__name__)

WRITE_S = 0.2  # minimum time between two writes of progress; each wakes all waiting processes, on the same cores
ALIVE_S = 1.0  # a change of the deadline that justifies a separate write
LOOK_S = 0.02  # how often the database is polled for commits that may set the cancel flag
STOPPED_S = 2.0  # this thread is never silent for so long, unless its process is stopped
SLOW_STEP = 10  # a step may take this many times as long as the previous one


class EngineShutdown(WanError):
    """The engine is shutting down: the job returns to the queue."""


class Reporter:
    """One attempt at one job."""

    def __init__(
        self,
        job: Job,
        store: JobStore,
        settings: Settings,
        leaving: Callable[[], bool] = lambda: False,
        *,
        heartbeats: bool = True,
    ) -> None:
        """Report on `job` to `store`.

        `leaving` returns whether the engine is shutting down; `heartbeats` is whether progress counts as a heartbeat.
        """
        self.job = job
        self.previews = Previews(PreviewStore(settings.home), job)
        self._output = OutputFolder(store.database, job)
        self._signatures = Signatures(settings, job)
        self._tells_alive = heartbeats
        self._store = store
        self._settings = settings
        self._leaving = leaving
        self._rows = WorkerRegistry(store.database)
        self._timings = Timings(store.database)
        self._items = job.plan.runs
        self._estimator = ProgressEstimator(job.plan, self._timings, settings.device)
        self._measured: list[tuple[Stage, float]] = []
        self._stage = Stage.LOAD
        self._stage_began = self._mark_at = time.monotonic()
        self._item = 1
        self._steps: tuple[int, int] | None = None
        self._detail = ""
        self._stage_left_s: float | None = None
        self._note: Progress | None = None
        self._deadline_at = time.monotonic() + settings.load_deadline_s
        self._deadline_written = 0.0
        self._least_allowed_s = 0.0
        self._stop = threading.Event()
        self._cancelled = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._write_on, name="reporter", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is not None and self._note is not None:
            self._write(self._note)  # the final position, which may not have been written yet

    # Called by the working thread.

    def check(self) -> None:
        """Raise if the job should stop.

        Raises:
            JobCancelled: it was cancelled.
            LeaseLost: it was given to another engine.
            EngineShutdown: this engine is shutting down.
        """
        if self._cancelled.is_set():
            raise JobCancelled
        if self._lost.is_set():
            raise LeaseLost
        if self._leaving():
            raise EngineShutdown

    def enter(self, stage: Stage, *, item: int = 1, detail: str = "") -> None:
        """Begin `stage` of result `item` (from 1); the previous stage is finished.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: as `check`.
        """
        self._leave_stage()
        self._stage, self._item, self._detail, self._steps, self._stage_left_s = stage, item, detail, None, None
        self._mark(self._usual_deadline_s())

    def step(self, step: int, steps: int) -> None:
        """Record that `step` of `steps` denoising steps of this result are done.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: as `check`.
        """
        self._steps = (step, steps)
        if step > 0:
            self._estimator.done[Stage.DENOISE] += 1
            allowed = SLOW_STEP * (time.monotonic() - self._mark_at)
        else:  # the duration of the first is unpredictable: kernels are selected and built in it
            allowed = max(self._settings.load_deadline_s, SLOW_STEP * (self._estimator.seconds[Stage.DENOISE] or 0.0))
        self._mark(max(self._settings.step_deadline_s, allowed))

    def tell(self, detail: str, *, slow: bool = False, left_s: float | None = None) -> None:
        """Report a detail of the current stage (bytes downloaded, frames decoded) as a heartbeat.

        `slow` announces work that reads a whole model, until the next report; `left_s` is the rest of a check.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: as `check`.
        """
        self._detail, self._stage_left_s = detail, left_s
        self._mark(self._settings.load_deadline_s if slow else self._usual_deadline_s())

    def alive(self) -> None:
        """Send a heartbeat within a step; the displayed progress does not change.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: as `check`.
        """
        allowed = max(self._settings.step_deadline_s, self._least_allowed_s)
        self._deadline_at = max(self._deadline_at, time.monotonic() + allowed)
        self.check()

    def allow(self, seconds: float) -> None:
        """Allow at least these seconds between heartbeats from now on: this job may wait for other engines."""
        self._least_allowed_s = seconds

    def skip(self, results: int) -> None:
        """Count this many results as made: an earlier attempt has left them."""
        plan = self.job.plan
        for stage, pieces in ((Stage.DENOISE, plan.steps_run), (Stage.DECODE, 1), (Stage.WRITE, 1)):
            self._estimator.done[stage] += results * pieces

    def runs_as(self, way: str) -> None:
        """Set how the model is run, e.g. `fp8+aot` (precision and compilation), before the first step.

        Step times are measured and estimated separately for each way.
        """
        self._estimator.expect(way)

    def add(self, artifact: Artifact) -> None:
        """Add a finished result, signed and saved in the output folder if the job's caller has these.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        artifact, unsigned = self._signatures.sign(artifact)
        if unsigned is not None:
            self._store.add_note(self.job, unsigned)
        if self.job.plan.pick is not None:  # the one that is picked is saved
            self._store.add_artifact(self.job, artifact)
            return
        saved, note = self._output.save(artifact)
        self._store.add_artifact(self.job, saved)
        if note is not None:
            self._store.add_note(self.job, note)

    def results(self) -> tuple[Artifact, ...]:
        """Return the results that the row has."""
        return self._store.get(self.job.id).artifacts

    def begin_review(self) -> None:
        """Begin to check the results, which are all there: from now on none is made again.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: as `check`.
        """
        begin_review(self._store.database, self.job)
        self.enter(Stage.REVIEW)

    def replace(self, artifacts: Sequence[Artifact]) -> None:
        """Replace the results in the row; one that was picked is saved in the output folder.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        notes: list[str | None] = []
        if self.job.plan.pick is not None:
            saved = [self._output.save(each) for each in artifacts]
            artifacts, notes = [each for each, _ in saved], [note for _, note in saved]
        replace_artifacts(self._store.database, self.job, artifacts)
        for note in filter(None, notes):
            self._store.add_note(self.job, note)

    def note(self, sentence: str) -> None:
        """Add a note about the result for the caller.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        self._store.add_note(self.job, sentence)

    def keep_timings(self) -> None:
        """Save the durations of this job's stages for later estimates. Call it when the job has succeeded."""
        self._leave_stage()
        for stage, seconds in self._measured:
            variant, work = self._estimator.variant if stage is Stage.DENOISE else "", self._estimator.work[stage]
            self._timings.record(self._settings.device, self.job.plan.model, stage, work, seconds, variant)

    # The writing thread.

    def _usual_deadline_s(self) -> float:
        slow = self._stage in _SLOW_STAGES
        return self._settings.load_deadline_s if slow else self._settings.step_deadline_s

    def _leave_stage(self) -> None:
        seconds = time.monotonic() - self._stage_began
        self._stage_began = time.monotonic()
        if self._note is None or self._stage not in self._estimator.work:
            return
        if self._stage is Stage.DENOISE:
            if self._steps is not None and self._steps[0] > 0:
                self._measured.append((Stage.DENOISE, seconds / self._steps[0]))
            elif isinstance(self.job.plan, CaptionPlan):
                self._estimator.done[self._stage] += 1
                self._measured.append((self._stage, seconds))
            return
        self._estimator.done[self._stage] += 1
        self._measured.append((self._stage, seconds))

    def _mark(self, seconds_allowed: float) -> None:
        self._mark_at = time.monotonic()
        self._deadline_at = time.monotonic() + max(seconds_allowed, self._least_allowed_s)
        step, steps = self._steps or (None, None)
        self._note = Progress(
            stage=self._stage,
            step=step,
            steps=steps,
            item=self._item,
            items=self._items,
            fraction=self._estimator.fraction(self._stage),
            eta_s=self._time_left(),
            detail=self._detail,
        )
        self.check()

    def _time_left(self) -> float | None:
        if self._stage is Stage.DOWNLOAD:
            return None
        step_s = self._estimator.seconds[Stage.DENOISE]
        if self._stage is Stage.DENOISE and self._steps is not None and self._steps[0] > 0:
            step_s = (time.monotonic() - self._stage_began) / self._steps[0]  # measured in this job
        return self._estimator.time_left(self._stage, step_s, self._stage_left_s if self._stage is Stage.CHECK else 0.0)

    def _write_on(self) -> None:
        watch = self._store.database.watch()
        written: Progress | None = None
        looked_at = time.monotonic()
        try:
            while not self._stop.is_set():
                gap, looked_at = time.monotonic() - looked_at, time.monotonic()
                if gap > STOPPED_S:  # this process was stopped: what it was doing has as much time as it had then
                    self._deadline_at += gap
                self.previews.write()
                if watch.changed() and self._store.cancel_requested(self.job):
                    self._cancelled.set()
                if self._note is not None and self._note is not written:
                    written = self._note
                    self._write(written)
                    self._stop.wait(WRITE_S)
                    continue
                if self._deadline_at - self._deadline_written > self._settings.step_deadline_s / 4:
                    self._write_alive()
                self._stop.wait(LOOK_S)
        finally:
            watch.close()

    def _write(self, note: Progress) -> None:
        self._write_alive()
        try:
            if self._store.report(self.job, note):
                self._cancelled.set()
        except LeaseLost:
            self._lost.set()
        except WanError as error:  # a full disk must not fail a job that may not need it
            log.warning("progress not written: %s", error)

    def _write_alive(self) -> None:
        if not self._tells_alive or abs(self._deadline_at - self._deadline_written) <= ALIVE_S:
            return
        try:
            self._deadline_written = self._deadline_at
            self._rows.heartbeat(self._settings.device, self._deadline_at)
        except WanError as error:
            log.warning("heartbeat not written: %s", error)


_SLOW_STAGES = (Stage.DOWNLOAD, Stage.CHECK, Stage.LOAD, Stage.REVIEW)
