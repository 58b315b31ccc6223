"""The results of calls about jobs: structured data, text, links and images.

Hosts differ in what they show their model: the text, the structure, or both. So each is enough by itself: `message` is
the text. Results contain no media. A video is returned as a link, a place and a contact sheet that a model can look at;
an image as a link, a place and a small preview. The whole result stays below the limit of the strictest client.
"""

import base64
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anyio.to_thread import run_sync
from mcp.types import Annotations, CallToolResult, ContentBlock, ImageContent, ResourceLink, TextContent
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.wording import Asked, in_words
from wan_mcp.media.contact_sheet import strip, titled
from wan_mcp.media.images import bounded, preview_jpeg
from wan_mcp.media.store import MediaName
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Artifact, Check, Job, JobError, MediaFacts
from wan_mcp.service.describe import fraction_of, stage_of, what_it_is
from wan_mcp.service.previews import live_preview
from wan_mcp.service.repeatable_request import repeatable_request
from wan_mcp.service.retention import expires_at
from wan_mcp.service.service import JobService, JobView
from wan_mcp.text import instant

__all__ = [
    "OF_A_JOB",
    "JobOutline",
    "JobResult",
    "ResultFile",
    "deleted_result",
    "job_result",
    "result_file",
    "structured",
]

log = logging.getLogger(__name__)

OF_A_JOB = Asked()
NO_PREVIEW = (
    "there is no preview yet: one is made at the end of a denoising step while somebody looks, for models that have a "
    "latent_rgb map; call get_job with preview again"
)
PICTURE_BYTES = 25_000
"""Of one picture: frameworks that turn a result into text make 1.4 characters of each byte."""
PICTURES_BYTES = 75_000
"""Of all pictures in a result; 100,000 characters as base64."""


class FileOutline(BaseModel):
    """The part of a file whose schema is published. `path` is null on other machines, `url` on stdio."""

    model_config = ConfigDict(extra="forbid")

    uri: str
    path: str | None
    url: str | None
    sheet: str | None
    """Path, or URL on another machine, of a JPEG with frames of the video."""


class ResultFile(FileOutline, MediaFacts):
    """A finished file, as one client finds it."""

    sheet_uri: str | None
    poster: str | None
    """Path or URL of a JPEG of the video's first frame."""
    poster_uri: str | None
    saved_as: str | None
    """Path of the same file in the output folder."""
    check: Check | None = Field(default=None, exclude_if=lambda check: check is None)


class JobOutline(BaseModel):
    """The part of a job whose schema each tool publishes; a short one, because some hosts send it to their model."""

    model_config = ConfigDict(extra="forbid")

    job_id: str
    status: JobState
    progress: float
    message: str
    error: JobError | None
    artifacts: Sequence[FileOutline]
    caption: str | None
    notes: list[str]


class JobResult(JobOutline):
    """A job as every tool reports it."""

    kind: Kind
    stage: str | None
    eta_s: float | None
    queue_position: int | None
    seed: int | None
    request: dict[str, Any]
    kept: bool
    client: str
    parent: str
    artifacts: Sequence[ResultFile]
    created_at: str
    started_at: str | None
    finished_at: str | None
    expires_at: str | None = None
    """When it is deleted by its age; left out where no age is set."""

    @model_serializer(mode="wrap")
    def _without_what_is_not_set(self, usual: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown: dict[str, Any] = usual(self)
        if shown.get("expires_at") is None:
            shown.pop("expires_at", None)
        return shown


def structured(service: JobService, view: JobView, places: Places, asked: Asked = OF_A_JOB) -> JobResult:
    """Return a job as structured data; reads the media folder."""
    job = view.job
    shows_stage = job.state in (JobState.RUNNING, JobState.FAILED)
    expires = instant(expires_at(job, service.settings))
    message = in_words(view, places, asked)
    if expires is not None:
        message += f"\nIt is deleted at {expires} with its files; keep_job(job_id='{job.id}') keeps it."
    manifest = service.catalog.manifests.get(job.plan.model)
    return JobResult(
        job_id=job.id,
        kind=job.plan.kind,
        status=job.state,
        stage=stage_of(job) if shows_stage else None,
        progress=fraction_of(job),
        eta_s=None if view.eta_s is None else round(view.eta_s, 1),
        queue_position=view.queue_position,
        message=message,
        error=job.error,
        seed=job.plan.seed,
        request=repeatable_request(job.plan, manifest, service.settings.home),
        kept=job.kept,
        client=job.client,
        parent=job.parent,
        artifacts=[result_file(artifact, places) for artifact in job.artifacts],
        caption=job.caption,
        notes=[*job.plan.notes, *job.notes],
        created_at=instant(job.created_at) or "",
        started_at=instant(job.started_at),
        finished_at=instant(job.finished_at),
        expires_at=expires,
    )


async def job_result(service: JobService, view: JobView, places: Places, asked: Asked = OF_A_JOB) -> CallToolResult:
    """Return a job as a tool's result. A failed job is an answer like any other: the call has not failed."""
    job = view.job
    facts = await run_sync(structured, service, view, places, asked)
    pictures = await run_sync(_pictures, job, places) if job.state is JobState.SUCCEEDED else []
    if asked.preview and not job.state.final:
        preview = await live_preview(service, job)
        if preview is None:
            facts = facts.model_copy(
                update={"message": f"{facts.message}\nNote: {NO_PREVIEW}.", "notes": [*facts.notes, NO_PREVIEW]}
            )
        else:
            pictures = [preview]
    content: list[ContentBlock] = [TextContent(type="text", text=facts.message)]
    content += [_link(artifact, places) for artifact in job.artifacts]
    content += [
        ImageContent(type="image", data=base64.b64encode(data).decode(), mime_type="image/jpeg") for data in pictures
    ]
    return CallToolResult(content=content, structured_content=facts.model_dump(mode="json"))


def deleted_result(job: Job) -> CallToolResult:
    """Return the answer about a job that was just deleted: what it was, without its files."""
    message = f"Job {job.id} and its files are deleted: {what_it_is(job)}."
    facts = JobOutline(
        job_id=job.id,
        status=job.state,
        progress=fraction_of(job),
        message=message,
        error=job.error,
        artifacts=[],
        caption=job.caption,
        notes=[],
    )
    content: list[ContentBlock] = [TextContent(type="text", text=message)]
    return CallToolResult(content=content, structured_content=facts.model_dump(mode="json"))


def result_file(artifact: Artifact, places: Places) -> ResultFile:
    """Return a file of a job as its client finds it; reads the media folder."""
    path, (sheet, poster) = Path(artifact.path), places.small_pictures(artifact)
    return ResultFile(
        **artifact.model_dump(exclude={"path", "saved_as"}),
        path=places.path(path),
        saved_as=artifact.saved_as if places.same_machine else None,
        url=places.url_of(path),
        sheet=sheet and places.best(sheet),
        sheet_uri=sheet and _address(sheet),
        poster=poster and places.best(poster),
        poster_uri=poster and _address(poster),
    )


def _address(path: Path) -> str:
    return f"wan://{path.parent.name}/{path.name}"


def _link(artifact: Artifact, places: Places) -> ResourceLink:
    size = f"{artifact.width}x{artifact.height}"
    if artifact.duration_s is not None:
        size += f", {artifact.duration_s:g} s"
    return ResourceLink(
        type="resource_link",
        name=artifact.uri.rpartition("/")[2],
        uri=artifact.uri,
        mime_type=artifact.mime_type,
        size=artifact.bytes,
        description=f"{size}, file {places.best(Path(artifact.path))}",
        annotations=Annotations(audience=["user"], priority=1.0),
    )


def _pictures(job: Job, places: Places) -> list[bytes]:
    """Return a small JPEG of each result: the sheet of a video, a preview of an image.

    Of several results each has its number and its seed above it, and a video has a strip: one row of frames.
    """
    pictures: list[bytes] = []
    share = min(PICTURE_BYTES, PICTURES_BYTES // max(1, len(job.artifacts)))
    count = len(job.artifacts)
    for number, artifact in enumerate(job.artifacts, start=1):
        title = f"{number} of {count}, seed {artifact.seed}" if count > 1 else None
        try:
            pictures.append(_picture(artifact, places, share, title))
        except (OSError, ValueError, BadRequest) as error:
            log.warning("no preview of %s: %s", artifact.uri, error)
    return pictures


def _picture(artifact: Artifact, places: Places, most: int, title: str | None) -> bytes:
    name = MediaName.parse(artifact.uri)
    file = places.media.sheet(name) if name.kind is Kind.VIDEO else places.media.path(name)
    if title is not None:
        return _titled(file, artifact, title, most)
    if name.kind is not Kind.VIDEO:
        return preview_jpeg(file, most)
    whole = file.read_bytes()
    return whole if len(whole) <= most else preview_jpeg(file, most)


def _titled(file: Path, artifact: Artifact, title: str, most: int) -> bytes:
    from PIL import Image  # only who has several results needs it

    with Image.open(file) as picture:
        whole = picture.convert("RGB")
    if artifact.frames is None or artifact.fps is None:
        return titled(bounded(whole), title, most)
    return strip(whole, artifact.frames, artifact.fps, artifact.width / artifact.height, title, most)
