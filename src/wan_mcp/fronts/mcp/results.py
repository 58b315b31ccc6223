"""The results of calls about jobs: structured data for programs, text and images for models.

Results contain no media. A video is returned as a link, a path and a contact sheet that a model
can look at; an image as a link, a path and a small preview. The whole result stays below the
limit of the strictest client.
"""

import base64
import logging
from typing import Any

from anyio.to_thread import run_sync
from mcp.types import Annotations, CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel, ConfigDict

from wan_mcp.errors import BadRequest
from wan_mcp.media.images import preview_jpeg
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Artifact, Job, JobError
from wan_mcp.service.describe import fraction_of, sentence, what_it_is
from wan_mcp.service.service import JobView
from wan_mcp.text import escaped, instant, one_line

__all__ = ["JobResult", "job_result", "structured"]

log = logging.getLogger(__name__)

PREVIEW_BYTES = 60_000  # of one picture
PICTURES_BYTES = 75_000  # of all pictures in a result; 100,000 characters as base64
FOLLOW_S = 45
LINE_ENDS = "\n\t"  # a caption may have several lines


class JobResult(BaseModel):
    """A job as every tool reports it."""

    model_config = ConfigDict(extra="forbid")

    job_id: str
    kind: Kind
    status: JobState
    stage: str | None
    progress: float
    eta_s: float | None
    queue_position: int | None
    message: str
    error: JobError | None
    seed: int | None
    request: dict[str, Any]
    artifacts: list[Artifact]
    caption: str | None
    notes: list[str]
    created_at: str
    started_at: str | None
    finished_at: str | None


def structured(view: JobView) -> JobResult:
    """Return a job as structured data."""
    job = view.job
    shows_stage = job.progress is not None and job.state in (JobState.RUNNING, JobState.FAILED)
    return JobResult(
        job_id=job.id,
        kind=job.plan.kind,
        status=job.state,
        stage=job.progress.stage if job.progress and shows_stage else None,
        progress=fraction_of(job),
        eta_s=None if view.eta_s is None else round(view.eta_s, 1),
        queue_position=view.queue_position,
        message=sentence(view),
        error=job.error,
        seed=job.plan.seed,
        request=job.plan.model_dump(mode="json"),
        artifacts=list(job.artifacts),
        caption=job.caption,
        notes=[*job.plan.notes, *job.notes],
        created_at=instant(job.created_at) or "",
        started_at=instant(job.started_at),
        finished_at=instant(job.finished_at),
    )


async def job_result(view: JobView, media: MediaStore) -> CallToolResult:
    """Return a job as a tool's result; for a failed job, an error result with the reason."""
    job = view.job
    pictures = await run_sync(_pictures, job, media) if job.state is JobState.SUCCEEDED else []
    content: list[ContentBlock] = [TextContent(type="text", text=_text(view))]
    content += [_link(artifact) for artifact in job.artifacts]
    content += [
        ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/jpeg") for data in pictures
    ]
    return CallToolResult(
        content=content,
        structured_content=structured(view).model_dump(mode="json"),
        is_error=job.state is JobState.FAILED,
    )


def _text(view: JobView) -> str:
    job = view.job
    match job.state:
        case JobState.SUCCEEDED:
            lines = [f"Job {job.id} succeeded: {what_it_is(job)}."]
        case JobState.FAILED:
            code = job.error.code if job.error else "unknown"
            lines = [f"Job {job.id} failed ({code}): {sentence(view)}"]
        case JobState.CANCELLED:
            lines = [f"Job {job.id} is cancelled."]
        case _ if job.cancel_requested:
            lines = [
                f"Job {job.id} is stopping; call get_job(job_id='{job.id}', wait_s=10) to see when it has stopped."
            ]
        case _:
            done = f"{fraction_of(job):.0%} done. " if fraction_of(job) >= 0.01 else ""
            lines = [
                f"Job {job.id} is {job.state}. {sentence(view)}. {done}"
                f"It runs in the background: call get_job(job_id='{job.id}', wait_s={FOLLOW_S}) for the result, "
                f"cancel_job(job_id='{job.id}') to stop it."
            ]
    if job.caption is not None:
        lines.append(f"Caption: {escaped(job.caption, keep=LINE_ENDS)}")
    lines += [f"File: {artifact.path} ({artifact.uri}, seed {artifact.seed})" for artifact in job.artifacts]
    lines += [f"Note: {one_line(note)}." for note in (*job.plan.notes, *job.notes)]
    if job.plan.style is not None:
        lines.append(f"Style '{job.plan.style}' made the prompt: {one_line(job.plan.prompt)}")
    if job.state is JobState.SUCCEEDED:
        lines += _what_next(job)
    return "\n".join(lines)


def _what_next(job: Job) -> list[str]:
    match job.plan.kind:
        case Kind.VIDEO:
            return [
                "Give the user the file's path. The image shows frames of the video in reading order. "
                "For a variation, repeat the call with another seed."
            ]
        case Kind.IMAGE:
            return [f"Give the user the file's path. To animate it: generate_video(image='{_first(job)}', prompt=…)."]
        case Kind.CAPTION:
            return []


def _first(job: Job) -> str:
    return job.artifacts[0].uri if job.artifacts else ""


def _link(artifact: Artifact) -> ResourceLink:
    size = f"{artifact.width}x{artifact.height}"
    if artifact.duration_s is not None:
        size += f", {artifact.duration_s:g} s"
    return ResourceLink(
        type="resource_link",
        name=artifact.uri.rpartition("/")[2],
        uri=artifact.uri,
        mime_type=artifact.mime_type,
        size=artifact.bytes,
        description=f"{size}, file {artifact.path}",
        annotations=Annotations(audience=["user"], priority=1.0),
    )


def _pictures(job: Job, media: MediaStore) -> list[bytes]:
    """Return small JPEGs of the results, as many as fit into the result."""
    pictures: list[bytes] = []
    room = PICTURES_BYTES
    share = min(PREVIEW_BYTES, PICTURES_BYTES // max(1, len(job.artifacts)))
    for artifact in job.artifacts:
        try:
            name = MediaName.parse(artifact.uri)
            video = name.kind is Kind.VIDEO
            picture = media.sheet(name).read_bytes() if video else preview_jpeg(media.path(name), share)
        except (OSError, ValueError, BadRequest) as error:
            log.warning("no preview of %s: %s", artifact.uri, error)
            continue
        if len(picture) <= min(room, PREVIEW_BYTES):
            pictures.append(picture)
            room -= len(picture)
    return pictures
