"""A job with its place in the queue and its estimated time."""

import time
from dataclasses import dataclass
from itertools import takewhile

from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.turns import NOBODY, Asker, line_before
from wan_mcp.schema.enums import JobState, RequestedPrecision, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan

__all__ = ["JobView", "Queue"]


@dataclass(frozen=True)
class JobView:
    """A job, with what depends on the whole queue."""

    job: Job
    queue_position: int | None = None
    """1 for the next job to run; None unless queued."""
    eta_s: float | None = None
    """Seconds until it is done; None while nothing similar has been measured."""
    hindrance: str | None = None
    """Why no engine takes it at the moment, in a sentence; None if nothing is known to hinder one."""


class Queue:
    """The jobs that one engine runs, one after the other."""

    def __init__(self, store: JobStore, timings: Timings, engines: Supervisor, precision: RequestedPrecision) -> None:
        """Keep the sources of the estimates; `precision` is the one in the settings."""
        self._precision = precision
        self._store, self._timings, self._engines = store, timings, engines

    def view(self, job_id: str) -> JobView:
        """Return the current view of one job.

        Raises:
            UnknownJob: there is none of that id.
        """
        job = self._store.get(job_id)
        if job.state.final:
            return JobView(job)
        if job.state is JobState.RUNNING:
            return JobView(job, eta_s=_time_left(job))
        unfinished = self._store.unfinished()
        ahead = list(takewhile(lambda other: other.id != job.id, unfinished))
        # A job that waits for a download is out of line, and its time is unknown.
        coming = {other.plan.model for other in unfinished if _downloads(other)}
        if job.plan.model in coming:
            position = sum(other.plan.model == job.plan.model for other in ahead)
            return JobView(job, queue_position=position, hindrance=self._engines.hindrance)
        line = [other for other in ahead if other.plan.model not in coming]
        position = sum(other.state is JobState.QUEUED for other in line) + 1
        hindrance = self._engines.hindrance
        return JobView(
            job,
            queue_position=position,
            eta_s=self._seconds([*line, job]) if hindrance is None else None,
            hindrance=hindrance,
        )

    def outlook(self, plan: Plan, asker: Asker = NOBODY) -> tuple[int, float | None, float | None]:
        """Return how many jobs a job of `asker` would find ahead, its own seconds, and those until it would begin.

        Seconds are None while nothing similar was measured, and while something hinders engines.
        """
        unfinished, before = self._store.unfinished(), line_before(self._store.database, asker)
        coming = {other.plan.model for other in unfinished if _downloads(other)}
        line = [other for other in unfinished if other.id in before and other.plan.model not in coming]
        loaded = next((row.loaded for row in self._engines.engines() if row.ready), LoadedModels())
        for job in line:
            loaded = loaded.after(job.plan, self._precision)
        expected = self._timings.expect(self._engines.device, plan, loaded=loaded.has(plan, self._precision))
        seconds = None if expected is None else sum(expected.values())
        return len(line), seconds, self._seconds(line) if self._engines.hindrance is None else None

    def _seconds(self, line: list[Job]) -> float | None:
        """Return the seconds until the last job in `line` is done; None if any is unknown."""
        total, device = 0.0, self._engines.device
        now = next((row.loaded for row in self._engines.engines() if row.ready), None)
        loaded = now or LoadedModels()
        for job in line:
            if job.state is JobState.RUNNING:
                seconds = _time_left(job)
            else:
                expected = self._timings.expect(device, job.plan, loaded=loaded.has(job.plan, self._precision))
                seconds = sum(expected.values()) if expected is not None else None
            if seconds is None:
                return None
            total += seconds
            loaded = loaded.after(job.plan, self._precision)
        if now is None:
            total += self._timings.start_seconds(device) or 0.0
        return total


def _downloads(job: Job) -> bool:
    return job.progress is not None and job.progress.stage is Stage.DOWNLOAD


def _time_left(job: Job) -> float | None:
    if job.progress is None or job.progress.eta_s is None or job.updated_at is None:
        return None
    return max(0.0, job.progress.eta_s - (time.time() - job.updated_at))
