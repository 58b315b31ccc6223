"""What waits in the queue, and for which devices; which devices are at work. Engines, supervisors and estimates ask."""

import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Self

from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job

__all__ = ["LOOKED_AT", "Waiting", "computing", "models_coming", "seconds_left", "waiting_jobs"]

LOOKED_AT = 256
"""Jobs of a long queue that are looked at to choose one: those behind them are too far away."""


@dataclass(frozen=True)
class Waiting:
    """A job that waits for an engine."""

    job: Job
    devices: frozenset[str]
    """Those whose engines may claim it."""
    passed: int = 0
    """How often an engine took a later job instead, because this one was to end sooner elsewhere."""

    @property
    def client(self) -> tuple[str, str]:
        """Who asked for it: see `turns`."""
        return self.job.client, self.job.owner

    def passed_by(self) -> Self:
        """Return it after one more engine has taken a later job."""
        return replace(self, passed=self.passed + 1)


def waiting_jobs(store: JobStore, devices: Collection[str], others: OtherDevices) -> Iterator[Waiting]:
    """Yield the queued jobs that engines of `devices` may claim, in the order of the queue.

    A job whose model is being downloaded waits for that.
    """
    line = store.line()
    coming = models_coming(each.job for each in line)
    for job, evidence, passed in line:
        if job.state is JobState.QUEUED and job.plan.model not in coming:
            able = frozenset(each for each in devices if not (evidence.bars(each) or others.take(job, evidence, each)))
            if able:
                yield Waiting(job, able, passed)


def computing(unfinished: Iterable[Job]) -> dict[str, Job]:
    """Return the jobs that engines run, by device; a download alone keeps none busy."""
    running = (job for job in unfinished if job.state is JobState.RUNNING and not _is_downloading(job))
    return {job.device: job for job in running if job.device is not None}


def models_coming(unfinished: Iterable[Job]) -> set[str]:
    """Return the models that engines are downloading while they run other jobs."""
    return {job.plan.model for job in unfinished if _is_downloading(job)}


def seconds_left(job: Job) -> float | None:
    """Return the seconds until a running job ends, negative if it should have ended; None if unknown."""
    if job.progress is None or job.progress.eta_s is None or job.updated_at is None:
        return None
    return job.progress.eta_s - (time.time() - job.updated_at)


def _is_downloading(job: Job) -> bool:
    return job.progress is not None and job.progress.stage is Stage.DOWNLOAD
