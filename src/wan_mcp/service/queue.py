"""A job with its place in the queue and its estimated time."""

from dataclasses import dataclass
from itertools import takewhile

from wan_mcp.jobs.affinity import EngineInView, Served, schedule
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.turns import NOBODY, Asker, line_before
from wan_mcp.jobs.waiting import Waiting, models_coming, seconds_left
from wan_mcp.schema.enums import JobState
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
    """The jobs that wait for the engines of a home."""

    def __init__(self, store: JobStore, engines: Supervisor) -> None:
        self._store, self._engines = store, engines

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
        unfinished, hindrance = self._store.unfinished(), self._engines.hindrance
        ahead = list(takewhile(lambda other: other.id != job.id, unfinished))
        # A job that waits for a download is out of line, and its time is unknown.
        coming = models_coming(unfinished)
        if job.plan.model in coming:
            position = sum(other.plan.model == job.plan.model for other in ahead)
            return JobView(job, queue_position=position, hindrance=hindrance)
        position = sum(other.state is JobState.QUEUED and other.plan.model not in coming for other in ahead) + 1
        eta_s = None
        if hindrance is None:
            served = self._served(self._engines.waiting(), job.id)
            eta_s = served.ends_in_s if served is not None else None
        return JobView(job, queue_position=position, eta_s=eta_s, hindrance=hindrance)

    def outlook(self, plan: Plan, asker: Asker = NOBODY) -> tuple[int, float | None, float | None]:
        """Return how many jobs a job of `asker` would find ahead, its own seconds, and those until it would begin.

        Seconds are None while nothing similar was measured, and while something hinders engines.
        """
        unfinished, before = self._store.unfinished(), line_before(self._store.database, asker)
        coming = models_coming(unfinished)
        ahead = sum(other.id in before and other.plan.model not in coming for other in unfinished)
        engines = self._engines.in_view()
        new = Waiting(_imagined(plan, asker), frozenset(each.device for each in engines))
        line = [each for each in self._engines.waiting() if each.job.id in before]
        served = self._served([*line, new], new.job.id)
        if served is None or self._engines.hindrance is not None:
            return ahead, self._alone(new, engines), None
        seconds = None if served.ends_in_s is None else served.ends_in_s - served.begins_in_s
        return ahead, seconds, served.begins_in_s

    def _served(self, line: list[Waiting], job_id: str) -> Served | None:
        """Return when a job in `line` is expected to run; None if that is unknown."""
        found = schedule(self._engines.in_view(), line, self._engines.timetable())
        return next((each for each in found if each.waiting.job.id == job_id), None)

    def _alone(self, waiting: Waiting, engines: list[EngineInView]) -> float | None:
        """Return the seconds of a job by itself, on the engine on which it takes the least; None if unknown."""
        table = self._engines.timetable()
        seconds = [each for engine in engines if (each := table.run(engine, waiting.job.plan)) is not None]
        return min(seconds, default=None)


def _imagined(plan: Plan, asker: Asker) -> Job:
    """Return a job as it would be if it were queued now."""
    return Job(
        id="", request_id=None, state=JobState.QUEUED, plan=plan, created_at=0.0, client=asker.client, owner=asker.owner
    )


def _time_left(job: Job) -> float | None:
    left = seconds_left(job)
    return None if left is None else max(0.0, left)
