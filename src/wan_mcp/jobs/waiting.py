"""What waits in the queue, and for which devices; which devices are at work. Supervisors and estimates ask."""

from collections.abc import Collection, Iterable, Iterator

from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job

__all__ = ["claimable", "computing", "is_downloading", "models_coming"]


def claimable(store: JobStore, devices: Collection[str], others: OtherDevices) -> Iterator[set[str]]:
    """Yield, for each queued job in the order of the queue, those of `devices` whose engines may claim it.

    A job whose model is being downloaded waits for that.
    """
    line = store.line()
    coming = models_coming(job for job, _ in line)
    for job, evidence in line:
        if job.state is JobState.QUEUED and job.plan.model not in coming:
            yield {each for each in devices if not (evidence.bars(each) or others.take(job, evidence, each))}


def computing(unfinished: Iterable[Job]) -> set[str]:
    """Return the devices whose engines run a job; a download alone keeps none busy."""
    running = (job for job in unfinished if job.state is JobState.RUNNING and not is_downloading(job))
    return {job.device for job in running if job.device is not None}


def models_coming(unfinished: Iterable[Job]) -> set[str]:
    """Return the models that engines are downloading while they run other jobs."""
    return {job.plan.model for job in unfinished if is_downloading(job)}


def is_downloading(job: Job) -> bool:
    """Check whether a job's weights are being downloaded."""
    return job.progress is not None and job.progress.stage is Stage.DOWNLOAD
