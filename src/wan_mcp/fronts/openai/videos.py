"""Videos: made, listed, followed, downloaded, remixed and deleted."""

from pathlib import Path

from starlette.responses import Response

from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.media_answer import media_answer
from wan_mcp.fronts.openai.answers import Video, VideoDeleted, VideoError, VideoPage
from wan_mcp.fronts.openai.api import Call
from wan_mcp.fronts.openai.forms import CreateVideo, ExtendVideo, ListVideos, RemixVideo, VideoContent
from wan_mcp.fronts.openai.ids import job_id_of, video_id
from wan_mcp.fronts.openai.refusals import ApiError, of_user_error
from wan_mcp.fronts.openai.requests import Asked, require_own, video_parameters, video_request
from wan_mcp.media.store import MediaName
from wan_mcp.schema.changes import Changes
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.service.describe import fraction_of, stage_of
from wan_mcp.service.remix import Remix
from wan_mcp.service.retention import expires_at
from wan_mcp.service.service import JobView
from wan_mcp.text import number, one_line

__all__ = [
    "content_of_video",
    "create_video",
    "delete_video",
    "extend_video",
    "list_videos",
    "remix_video",
    "retrieve_video",
]

STATUSES = {
    JobState.QUEUED: "queued",
    JobState.RUNNING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
}
CANCELLED = VideoError(code="cancelled", message="The job was cancelled.")
STOPPING_S = 30.0  # how long a deletion waits for its job to stop


async def create_video(call: Call) -> Video:
    """Queue a video."""
    async with call.body(CreateVideo) as form:
        asked = video_request(form, call.http, urls=call.urls)
        return await _submit(call, asked.as_request(VideoRequest), asked, form)


async def remix_video(call: Call) -> Video:
    """Queue a video with the parameters of an earlier one, its seed among them, except those of this call."""
    source = (await _view(call)).job
    async with call.body(RemixVideo) as form:
        asked = video_parameters(form, call.http, urls=call.urls)
        asked.set("prompt", form.prompt)
        changes = dict(asked.parameters)
        if source.plan.count > 1:  # this API makes one video a call
            changes["count"] = 1
        try:
            remix = await call.service.remix(source.id, Changes.of(changes), elsewhere=call.elsewhere)
        except UserError as error:
            raise of_user_error(error, asked.names) from error
        assert isinstance(remix.request, VideoRequest)
        return await _submit(call, remix.request, asked, form, remix)


async def extend_video(call: Call) -> Video:
    """Queue a video that goes on from an earlier one, in one file, with its parameters."""
    async with call.body(ExtendVideo) as form:
        source = (await _view_of(call, form.video.id, "video")).job
        if source.state is not JobState.SUCCEEDED:
            raise ApiError(
                400, f"Video '{video_id(source.id)}' is {STATUSES[source.state]}; only a completed one is extended.",
                code="not_ready", param="video",
            )  # fmt: skip
        asked = Asked()
        asked.set("prompt", form.prompt)
        asked.set("seed", form.seed)
        if form.seconds is not None:
            asked.set("duration_s", float(form.seconds))
        asked.set("extend", MediaName.of(source.id, 0, Kind.VIDEO).uri)
        changes = asked.parameters | ({"count": 1} if source.plan.count > 1 else {})
        try:
            remix = await call.service.remix(source.id, Changes.of(changes), elsewhere=call.elsewhere)
        except UserError as error:
            raise of_user_error(error, asked.names) from error
        assert isinstance(remix.request, VideoRequest)
        # The shots of the earlier video are in its file already.
        request = remix.request.model_copy(update={"shots": ()})
        return await _submit(call, request, asked, None, remix)


async def _submit(
    call: Call,
    request: VideoRequest,
    asked: Asked,
    form: CreateVideo | RemixVideo | None,
    remix: Remix | None = None,
) -> Video:
    if form is not None:
        try:
            model = call.service.catalog.get(request.model or call.service.settings.video_model, Kind.VIDEO)
        except UserError as error:
            raise of_user_error(error, asked.names) from error
        require_own(form, model)
    return _shown(call, await call.submit(request, asked, remix))


async def retrieve_video(call: Call) -> Video:
    """Report on a video."""
    view = await _view(call)
    call.retries.note_answered(view.job.id)
    return _shown(call, view)


async def list_videos(call: Call) -> VideoPage:
    """Report on all videos, by whichever front they were asked for; a page at a time."""
    query = call.query(ListVideos)
    after = None if query.after is None else job_id_of(query.after)
    try:
        if query.after is not None and after is None:
            raise UnknownJob(f"no video '{query.after[:60]}'")
        listing = await call.service.find(
            kind=Kind.VIDEO, before=after, limit=query.limit, oldest_first=query.order == "asc"
        )
    except UnknownJob as error:
        raise ApiError(400, f"No video '{query.after}' to list after.", code="invalid_value", param="after") from error
    views = [JobView(job) if job.state.final else await call.service.view(job.id) for job in listing.jobs]
    videos = [_shown(call, view) for view in views]
    return VideoPage(
        data=videos,
        first_id=videos[0].id if videos else None,
        last_id=videos[-1].id if videos else None,
        has_more=listing.before is not None,
    )


async def content_of_video(call: Call) -> Response:
    """Answer with the file of a video, its poster or its sheet of frames; players may request ranges."""
    query = call.query(VideoContent)
    view = await _view(call)
    job = view.job
    call.retries.note_answered(job.id)
    if not job.state.final:
        raise ApiError(
            404, f"Video '{video_id(job.id)}' is {STATUSES[job.state]}; its content is there when it is completed.",
            code="not_ready", param="video_id",
        )  # fmt: skip
    if job.state is not JobState.SUCCEEDED:
        reason = one_line(job.error.message) if job.error else CANCELLED.message
        raise ApiError(404, f"Video '{video_id(job.id)}' has failed: {reason}", code="failed", param="video_id")
    if query.index >= len(job.artifacts):
        count = len(job.artifacts)
        raise ApiError(
            400, f"index {query.index} is not allowed: this job has {count} video{'s' if count != 1 else ''}.",
            code="invalid_value", param="index",
        )  # fmt: skip
    artifact = job.artifacts[query.index]
    name, media_type = MediaName.parse(artifact.uri), "image/jpeg"
    match query.variant:
        case "video":
            path, media_type = Path(artifact.path), artifact.mime_type
        case "thumbnail":
            path = call.service.media.poster(name)
        case "spritesheet":
            path = call.service.media.sheet(name)
    found = await media_answer(call.http, path, media_type)
    if found is None:
        raise ApiError(
            404, f"The {query.variant} of '{video_id(job.id)}' is not there.", code="not_found", param="variant"
        )
    return found


async def delete_video(call: Call) -> VideoDeleted:
    """Delete a video with its files; one that is still made is stopped first."""
    job = (await _view(call)).job
    if not job.state.final:
        await call.service.cancel(job.id)
        job = (await call.service.wait(job.id, STOPPING_S)).job
        if not job.state.final:  # the official client tries again
            raise ApiError(
                409, f"Video '{video_id(job.id)}' is being stopped; delete it when it has stopped.",
                code="in_progress", param="video_id",
            )  # fmt: skip
    try:
        await call.service.delete(job.id)
    except UnknownJob as error:
        raise _unknown(call.http.path_params["video_id"]) from error
    except UserError as error:
        raise of_user_error(error, {}) from error
    return VideoDeleted(id=video_id(job.id), deleted=True)


async def _view(call: Call) -> JobView:
    """Return the video job of a request's address.

    Raises:
        ApiError: There is none.
    """
    return await _view_of(call, call.http.path_params["video_id"])


async def _view_of(call: Call, given: str, param: str = "video_id") -> JobView:
    """Return the video job of an id.

    Raises:
        ApiError: There is none.
    """
    job_id = job_id_of(given)
    if job_id is None:
        raise _unknown(given, param)
    try:
        view = await call.service.view(job_id)
    except UnknownJob as error:
        raise _unknown(given, param) from error
    if view.job.plan.kind is not Kind.VIDEO:
        raise _unknown(given, param)
    return view


def _unknown(given: str, param: str = "video_id") -> ApiError:
    return ApiError(404, f"No video '{given[:60]}'; GET /v1/videos lists them.", code="not_found", param=param)


def _shown(call: Call, view: JobView) -> Video:
    """Return a job in this API's words."""
    job, plan = view.job, view.job.plan
    assert isinstance(plan, VideoPlan)
    error, expires = None, expires_at(job, call.service.settings)
    if job.state is JobState.CANCELLED:
        error = CANCELLED
    elif job.state is JobState.FAILED and job.error is not None:
        error = VideoError(code=job.error.code, message=call.words(one_line(job.error.message)))
    done = 100 if job.state is JobState.SUCCEEDED else min(99, int(100 * fraction_of(job)))
    return Video.model_validate(
        {
            "id": video_id(job.id),
            "model": plan.model,
            "status": STATUSES[job.state],
            "progress": done,
            "created_at": int(job.created_at),
            "completed_at": None if job.finished_at is None else int(job.finished_at),
            "expires_at": None if expires is None else int(expires),
            "prompt": plan.prompt_asked,
            "seconds": number(plan.duration_s),
            "size": f"{plan.width}x{plan.height}",
            "error": error,
            "remixed_from_video_id": video_id(job.parent) if job.parent else None,
            "seed": plan.seed,
            "fps": plan.fps,
            "num_frames": plan.total_frames,
            "results": plan.count,
            "stage": stage_of(job) if job.state is JobState.RUNNING else None,
            "queue_position": view.queue_position,
            "eta_seconds": None if view.eta_s is None else round(view.eta_s, 1),
            "notes": [call.words(one_line(note)) for note in (*plan.notes, *job.notes)],
        }
    )
