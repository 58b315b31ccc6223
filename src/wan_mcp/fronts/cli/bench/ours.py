"""Our side of a benchmark: real jobs, through the queue and an engine that is started for them."""

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from anyio.to_thread import run_sync

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.fronts.cli.bench.peak_memory import PeakMemory
from wan_mcp.fronts.cli.bench.side import CAME, OVER, Side
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.service.engine_control import engines_of, is_served_by_cluster, stop_engine
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

__all__ = ["other_jobs", "remove", "require_quiet", "run_ours", "stop_idle_engines"]

log = logging.getLogger(__name__)

CLIENT = "benchmark"
STOP_S = 180.0
"""Seconds for an engine to end: after the first job of a home it still writes converted weights to the disk."""
WAIT_S = 0.5
OF_RECEIPT = ("device", "precision", "attention", "quality", "weights_sha256")


async def other_jobs(service: JobService) -> list[str]:
    """Return the ids of the jobs that wait or run."""
    return [job.id for state in (JobState.RUNNING, JobState.QUEUED) for job in await service.newest(state)]


async def require_quiet(service: JobService) -> None:
    """Refuse to measure while other jobs wait or run, or while a cluster takes the jobs of this home.

    Raises:
        BadRequest: names one of the jobs, or the cluster, and what to do.
    """
    await run_sync(_require_no_cluster, service.settings)
    if others := await other_jobs(service):
        many = f"{len(others)} jobs wait or run" if len(others) > 1 else "a job waits or runs"
        raise BadRequest(
            f"{many} ({others[0]}), and a benchmark needs the device for itself; wait for it with "
            f"'wan-mcp jobs wait {others[0]}', then run the benchmark again"
        )


def _require_no_cluster(settings: Settings) -> None:
    if is_served_by_cluster(settings.home):
        raise BadRequest(
            "GPUs of a cluster take the jobs of this home, and a benchmark measures this machine; end the command "
            "'wan-mcp cluster', then run the benchmark again"
        )


def stop_idle_engines(settings: Settings) -> None:
    """Stop the engines of the home, none of which runs a job.

    Raises:
        BadRequest: one runs a job now, cannot be reached from here, or does not end; or a cluster came.
    """
    _require_no_cluster(settings)  # its engines are of one process here, which must not be stopped
    for each in engines_of(settings.home):
        if not stop_engine(settings.home, each, seconds=STOP_S):
            raise BadRequest(f"the engine of {each.device} (process {each.pid}) has not stopped yet; try again later")


async def run_ours(
    service: JobService,
    requests: Iterable[VideoRequest | ImageRequest],
    until: float,
    jobs: list[Job],
    tell: Callable[[str, int], None],
) -> Side:
    """Run a job for each request, one after the other, and add it to `jobs`; return what was measured.

    A job only begins if nobody else's waits, and if one as long as the last would end before `until`, on the clock of
    `time.monotonic`; one that does not end by then is cancelled.

    Raises:
        UserError: a request is refused.
    """
    side, engines = Side(), await service.engines()
    device: str | None = None

    def pid() -> int | None:
        row = engines.engine(device) if device else None
        return row.pid if row else None

    with PeakMemory(pid, lambda: device) as memory:
        for number, request in enumerate(requests, 1):
            if side.seconds and time.monotonic() + side.last_s > until:
                side.ended = OVER
            elif await other_jobs(service):
                side.ended = CAME
            if side.ended is not None:
                break
            tell("wan-mcp", number)
            jobs.append((await service.submit(request, client=CLIENT)).job)
            while not jobs[-1].state.final and time.monotonic() < until:
                jobs[-1] = (await service.wait(jobs[-1].id, WAIT_S)).job
                device = jobs[-1].device or device
            jobs[-1] = await _ended(service, jobs[-1])
            if not _took(jobs[-1], side):
                break
    side.process_bytes, side.gpu_bytes = memory.process_bytes, memory.gpu_bytes
    if side.files:
        receipt = await run_sync(read_receipt, side.files[0]) or {}
        side.facts = {name: receipt[name] for name in OF_RECEIPT if name in receipt}
    return side


async def remove(service: JobService, jobs: Iterable[Job]) -> None:
    """Delete jobs with their files, after they have stopped."""
    for job in jobs:
        try:
            await _ended(service, job)
            await service.delete(job.id)
        except UserError as error:
            log.warning("job %s of a benchmark was not deleted: %s", job.id, error)


async def _ended(service: JobService, job: Job) -> Job:
    """Return a job that has ended, after stopping it if need be."""
    if job.state.final:
        return job
    await service.cancel(job.id)
    return (await service.wait(job.id, STOP_S)).job


def _took(job: Job, side: Side) -> bool:
    """Add a job that has ended to what was measured; return False if it is the last."""
    if job.state is not JobState.SUCCEEDED:
        side.failed = job.state is JobState.FAILED
        side.ended = job.error.message if job.error else OVER
        return False
    finished = job.finished_at or 0.0
    if side.first_s is None:
        side.first_s = finished - job.created_at
    side.seconds.append(finished - (job.started_at or 0.0))
    side.files.append(Path(job.artifacts[0].path))
    return True
