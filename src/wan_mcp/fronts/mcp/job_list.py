"""The answer of `list_jobs`: one line a job."""

from typing import Any

from mcp.types import CallToolResult, TextContent
from pydantic import BaseModel, ConfigDict

from wan_mcp.jobs.rows import JobListing
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.service.describe import fraction_of, what_it_is
from wan_mcp.text import instant, one_line, shortened

__all__ = ["JobList", "JobListOutline", "job_list"]

NO_JOBS = "No matching jobs."
PROMPT_CHARACTERS = 100
"""Of a prompt in the list."""


class _Listed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class JobEntry(_Listed):
    """A job in one line."""

    job_id: str
    kind: Kind
    status: JobState
    progress: float
    model: str
    prompt: str | None
    error: str | None
    caption: str | None
    seed: int | None
    kept: bool
    client: str
    uris: list[str]
    created_at: str
    finished_at: str | None


class JobListOutline(_Listed):
    """The part of the list whose schema is published."""

    message: str


class JobList(JobListOutline):
    """Some jobs, the newest first."""

    jobs: list[JobEntry]
    before: str | None
    """What to pass as `before` for the older ones; None if these are all."""
    unreadable: dict[str, str]
    """By job id: why this version cannot understand the job's row."""


def job_list(found: JobListing) -> CallToolResult:
    """Return the result of `list_jobs`."""
    entries = [_entry(job) for job in found.jobs]
    lines = [
        f"{entry.job_id} {entry.status} {entry.progress:.0%} {what_it_is(job)}"
        + (f", “{entry.prompt}”" if entry.prompt else "")
        + (f", seed {entry.seed}" if entry.seed is not None else "")
        + (", kept" if entry.kept else "")
        + (f": “{entry.caption}”" if entry.caption else "")
        + (f": {entry.error}" if entry.error else "")
        + (f" ({', '.join(entry.uris)})" if entry.uris else "")
        for entry, job in zip(entries, found.jobs, strict=True)
    ]
    lines += [str(job) for job in found.unreadable]
    message = "\n".join([*map(one_line, lines), *_next_step(found)]) or NO_JOBS
    unreadable = {job.id: job.reason for job in found.unreadable}
    facts: dict[str, Any] = JobList(
        message=message, jobs=entries, before=found.before, unreadable=unreadable
    ).model_dump(mode="json")
    return CallToolResult(content=[TextContent(type="text", text=message)], structured_content=facts)


def _next_step(found: JobListing) -> list[str]:
    jobs = found.jobs
    steps = []
    if jobs:
        [*_, chosen] = [jobs[0], *(job for job in jobs if not job.state.final)]  # the oldest that is not done, if any
        waits = "" if chosen.state.final else ", wait_s=45"
        steps.append(f"A job's files, text or error: get_job(job_id='{chosen.id}'{waits}).")
    if removable := [job for job in jobs if job.state.final and not job.kept]:
        steps.append(f"To remove one for good: delete_job(job_id='{removable[-1].id}').")
    if found.before:
        steps.append(f"Older jobs: repeat the call with before='{found.before}'.")
    return [" ".join(steps)] if steps else []


def _entry(job: Job) -> JobEntry:
    prompt = job.plan.prompt_asked
    return JobEntry(
        job_id=job.id,
        kind=job.plan.kind,
        status=job.state,
        progress=fraction_of(job),
        model=job.plan.model,
        prompt=None if prompt is None else shortened(prompt, PROMPT_CHARACTERS),
        error=job.error.message if job.error else None,
        caption=None if job.caption is None else shortened(job.caption, PROMPT_CHARACTERS),
        seed=job.plan.seed,
        kept=job.kept,
        client=job.client,
        uris=[artifact.uri for artifact in job.artifacts],
        created_at=instant(job.created_at) or "",
        finished_at=instant(job.finished_at),
    )
