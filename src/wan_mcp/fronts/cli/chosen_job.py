"""The job that a person means by an id, by its beginning, or by `latest`; and a job as JSON for scripts."""

from typing import Any

from wan_mcp.errors import UnknownJob
from wan_mcp.schema.jobs import Job
from wan_mcp.service.describe import stage_of
from wan_mcp.service.service import JobService, JobView
from wan_mcp.text import quoted

__all__ = ["LATEST", "chosen_job", "job_as_json"]

LATEST = "latest"
SHORTEST = 4
"""Letters of an id that are enough to look for it."""
LOOKED_AT = 1000
"""Newest jobs among which a beginning of an id is looked for."""


async def chosen_job(service: JobService, meant: str) -> JobView:
    """Return the job of that id, the only one whose id begins so, or the newest one for `latest`.

    Raises:
        UnknownJob: There is none, or there are several; the message says which.
        UnreadableRow: its row cannot be understood.
    """
    if meant == LATEST:
        newest = await service.newest(limit=1)
        if not newest:
            raise UnknownJob("there are no jobs yet")
        return await service.view(newest[0].id)
    try:
        return await service.view(meant)
    except UnknownJob:
        found = [job.id for job in await service.newest(limit=LOOKED_AT) if job.id.startswith(meant)]
        if len(meant) < SHORTEST or not found:
            raise
    if len(found) > 1:
        raise UnknownJob(f"{len(found)} jobs begin with {quoted(meant)}: {', '.join(found[:5])}; write more of the id")
    return await service.view(found[0])


def job_as_json(job: Job) -> dict[str, Any]:
    """Return a job for scripts: with the words of its kind, and without the last report of work that has ended."""
    shown = job.model_dump(mode="json")
    if job.state.final:
        shown["progress"] = None
    elif shown["progress"] is not None:
        shown["progress"]["stage"] = stage_of(job)
    return shown
