"""Images: generated and edited by calls that wait. The job is as durable as any: who hangs up loses nothing."""

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path

from anyio.to_thread import run_sync
from starlette.responses import Response

from wan_mcp.fronts.openai.answers import ImageData, Images
from wan_mcp.fronts.openai.api import Call
from wan_mcp.fronts.openai.forms import CreateImage, EditImage
from wan_mcp.fronts.openai.ids import image_id
from wan_mcp.fronts.openai.refusals import NO_REPETITION, ApiError
from wan_mcp.fronts.openai.requests import image_request
from wan_mcp.fronts.signed_links import SignedLinks
from wan_mcp.media.generated_mark import XMP
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import ImagePlan
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.service.service import JobView
from wan_mcp.text import one_line

__all__ = ["create_image", "edit_image"]

HUNG_UP = Response(status_code=499)  # nobody reads it
FORMATS = {"jpeg": "JPEG", "webp": "WEBP"}
DISKS_FAULT = ("out_of_space",)
CALLERS_FAULT = ("cancelled", "out_of_memory")


@dataclass(frozen=True)
class _Wanted:
    """How a call wants its images."""

    url: bool
    format: str
    quality: int


async def create_image(call: Call) -> Images | Response:
    """Make images and answer with them."""
    return await _answer(call, *await _submit(call, CreateImage))


async def edit_image(call: Call) -> Images | Response:
    """Change an image and answer with the result."""
    return await _answer(call, *await _submit(call, EditImage))


async def _submit(call: Call, kind: type[CreateImage]) -> tuple[str, _Wanted]:
    """Return the id of a call's job, and what remains of the call while it waits: not its picture."""
    async with call.body(kind) as form:
        wanted = _Wanted(
            form.response_format == "url",
            form.output_format or "png",
            100 if form.output_compression is None else form.output_compression,
        )
        if wanted.url and wanted.format != "png":
            words = f"output_format '{wanted.format}' is only answered as b64_json; with url it must be png."
            raise ApiError(400, words, code="invalid_value", param="output_format")
        if form.output_compression is not None and wanted.format == "png":
            words = "output_compression is for jpeg and webp; omit it for png."
            raise ApiError(400, words, code="invalid_value", param="output_compression")
        asked = image_request(form, call.http, urls=call.urls)
        return (await call.submit(asked.as_request(ImageRequest), asked)).job.id, wanted


async def _answer(call: Call, job_id: str, wanted: _Wanted) -> Images | Response:
    ended = await _ended(call, job_id)
    if ended is None:
        return HUNG_UP
    if ended.state is not JobState.SUCCEEDED:
        raise _failure(ended)
    data = [await _datum(call, wanted, artifact, ended, i) for i, artifact in enumerate(ended.artifacts)]
    call.retries.note_sent(ended.id)
    plan = ended.plan
    assert isinstance(plan, ImagePlan)
    return Images.model_validate(
        {
            "created": int(ended.created_at),
            "data": data,
            "output_format": wanted.format,
            "size": f"{plan.width}x{plan.height}",
            "model": plan.model,
            "job_id": ended.id,
            "notes": [call.words(one_line(note)) for note in (*plan.notes, *ended.notes)],
        }
    )


async def _ended(call: Call, job_id: str) -> Job | None:
    """Wait until a job has ended; None if the client hangs up meanwhile."""
    hung_up = False

    class _HungUp(Exception):
        pass

    async def look(view: JobView) -> None:
        if await call.http.is_disconnected():
            raise _HungUp

    try:
        view = await call.service.wait(job_id, math.inf, look)
    except _HungUp:
        hung_up = True
    return None if hung_up else view.job


def _failure(job: Job) -> ApiError:
    """Return the refusal that says why a job has made nothing. A repeated call would only find the same job."""
    code = job.error.code if job.error and job.state is JobState.FAILED else "cancelled"
    message = one_line(job.error.message) if job.error and code != "cancelled" else "The job was cancelled."
    status = 400 if code in CALLERS_FAULT else 503 if code in DISKS_FAULT else 500
    return ApiError(status, f"Job {job.id} has failed: {message}", code=code, headers=NO_REPETITION)


async def _datum(call: Call, wanted: _Wanted, artifact: Artifact, job: Job, index: int) -> ImageData:
    identity = {"id": image_id(job.id, index), "seed": artifact.seed}
    path = Path(artifact.path)
    if wanted.url:
        base = str(call.http.base_url).rstrip("/")
        address = SignedLinks.signed(call.http.scope, f"/media/{path.parent.name}/{path.name}")
        return ImageData.model_validate({**identity, "url": base + address})
    try:
        data = await run_sync(_encoded, path, wanted.format, wanted.quality)
    except FileNotFoundError as error:
        raise ApiError(404, f"Image '{identity['id']}' was deleted.", code="not_found") from error
    return ImageData.model_validate({**identity, "b64_json": base64.b64encode(data).decode()})


def _encoded(path: Path, output: str, quality: int) -> bytes:
    """Return an image's file, or the image in another format."""
    if output == "png":
        return path.read_bytes()
    out = io.BytesIO()
    from PIL import Image  # only who asks for another format needs it

    with Image.open(path) as image:
        image.convert("RGB").save(out, FORMATS[output], quality=quality, xmp=XMP)
    return out.getvalue()
