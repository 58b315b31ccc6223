"""The endpoints of jobs: submit, list, show, keep, move, cancel, delete, and estimate without submitting."""

import re
from enum import StrEnum
from typing import Any, TypeVar

from anyio.to_thread import run_sync
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.web.answers import Answers, Refusal
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.fronts.web.inputs import Inputs, crop_of
from wan_mcp.fronts.web.shapes import Action, EstimateAnswer, Fitting, JobPage, Unreadable
from wan_mcp.parsing import parse_json
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.schema.requests import Request as JobRequest
from wan_mcp.service.describe import what_it_makes
from wan_mcp.service.estimate import Estimate
from wan_mcp.service.service import JobService, JobView
from wan_mcp.text import in_bytes, quoted

__all__ = ["JobRoutes"]

W = TypeVar("W", bound=StrEnum)

CLIENT = "page"
BODY_BYTES = 1_000_000  # of JSON; pictures are sent to /api/inputs
LIMIT, MAX_LIMIT = 30, 200
KEY = re.compile(r"[\x21-\x7e]{1,200}")
TIME = re.compile(r"[0-9]{1,13}(\.[0-9]{1,6})?")
REQUESTS: dict[Kind, type[VideoRequest] | type[ImageRequest] | type[CaptionRequest]] = {
    Kind.VIDEO: VideoRequest,
    Kind.IMAGE: ImageRequest,
    Kind.CAPTION: CaptionRequest,
}


class JobRoutes:
    """The endpoints of jobs."""

    def __init__(self, service: JobService, answers: Answers, cards: Cards, inputs: Inputs) -> None:
        self._service, self._answers, self._cards, self._inputs = service, answers, cards, inputs

    async def submit(self, request: Request) -> Response:
        """Queue a job. The same Idempotency-Key makes one job only, however often it is sent."""
        key = request.headers.get("idempotency-key")
        if key is not None and not KEY.fullmatch(key):
            raise Refusal(400, "bad_request", "The Idempotency-Key must have 1 to 200 printable characters, no blanks.")
        given = await body_of(request)
        parent, download = given.pop("parent", ""), given.pop("download", False)
        if not isinstance(parent, str):
            raise Refusal(400, "bad_request", "The parent must be the id of a job.")
        if not isinstance(download, bool):
            raise Refusal(400, "bad_request", "download must be true or false.")
        parameters, images = await self._inputs.named(request, given)
        view = await self._service.submit(
            _asked(parameters),
            key,
            client=CLIENT,
            parent=parent,
            images=images,
            elsewhere=not is_near(request.scope),
            download=download,
        )
        location = {"Location": f"/api/jobs/{view.job.id}"}
        return await self._job(request, view, 202, **location)

    async def estimate(self, request: Request) -> Response:
        """Return what a job would be and take."""
        given = await body_of(request)
        for name in ("parent", "download"):
            given.pop(name, None)
        parameters, images = await self._inputs.named(request, given)
        found = await self._service.estimate(
            _asked(parameters), images, client=CLIENT, elsewhere=not is_near(request.scope)
        )
        return self._answers.json(request, _estimate(found))

    async def page(self, request: Request) -> Response:
        """List jobs, the newest first."""
        query = request.query_params
        states = [_word(JobState, "state", each) for each in query.getlist("state")]
        found = await self._service.find(
            query.get("q"),
            kind=_word(Kind, "kind", query["kind"]) if query.get("kind") else None,
            model=query.get("model") or None,
            states=states,
            kept=_flag(query, "kept"),
            before=query.get("before") or None,
            since=_time(query, "since"),
            until=_time(query, "until"),
            limit=_limit(query),
        )
        views = [await self._view(job.id, job.state) or JobView(job) for job in found.jobs]
        cards = await run_sync(lambda: [self._cards.card(view) for view in views])
        unreadable = [Unreadable(id=bad.id, state=bad.state, reason=bad.reason) for bad in found.unreadable]
        return self._answers.json(request, JobPage(jobs=cards, unreadable=unreadable, before=found.before))

    async def _view(self, job_id: str, state: JobState) -> JobView | None:
        """Return the view of an unfinished job; None for one that has ended, which needs none."""
        return None if state.final else await self._service.view(job_id)

    async def show(self, request: Request) -> Response:
        """Return one job with what would make it again."""
        return await self._job(request, await self._service.view(request.path_params["id"]))

    async def change(self, request: Request) -> Response:
        """Keep a job, or keep it no longer."""
        given = await body_of(request)
        if set(given) != {"kept"} or not isinstance(given["kept"], bool):
            raise Refusal(400, "bad_request", 'The body must be {"kept": true} or {"kept": false}.')
        return await self._job(request, await self._service.keep(request.path_params["id"], given["kept"]))

    async def move(self, request: Request) -> Response:
        """Move a waiting job before another one, or behind all of its owner's."""
        given = await body_of(request)
        before = given.get("before")
        if set(given) != {"before"} or not (before is None or isinstance(before, str)):
            raise Refusal(
                400, "bad_request", 'The body must be {"before": "the id of a waiting job"}, or null to be last.'
            )
        return await self._job(request, await self._service.move(request.path_params["id"], before))

    async def delete(self, request: Request) -> Response:
        """Delete a job that has ended, with its files."""
        await self._service.delete(request.path_params["id"])
        return Response(status_code=204)

    async def cancel(self, request: Request) -> Response:
        """Ask a job to stop."""
        return await self._job(request, await self._service.cancel(request.path_params["id"]))

    async def _job(self, request: Request, view: JobView, status: int = 200, **headers: str) -> Response:
        detail = await run_sync(lambda: self._cards.detail(view, near=is_near(request.scope)))
        return self._answers.json(request, detail, status, **headers)


def _asked(given: dict[str, Any]) -> JobRequest:
    kind = given.pop("kind", None)
    if not isinstance(kind, str) or kind not in set(Kind):
        raise Refusal(400, "bad_request", f"The kind must be {', '.join(Kind)}, not {quoted(kind)}.")
    return REQUESTS[Kind(kind)].of(given)


async def body_of(request: Request) -> dict[str, Any]:
    """Return the JSON object in the body of a request.

    Raises:
        Refusal: It has none, or a larger one than anything here needs.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "bad_request", "The body must be JSON, with Content-Type: application/json.")
    size, chunks = 0, []
    async for chunk in request.stream():
        size += len(chunk)
        if size > BODY_BYTES:
            raise Refusal(413, "bad_request", f"The body is too large; the limit is {in_bytes(BODY_BYTES)}.")
        chunks.append(chunk)
    try:
        body = parse_json(b"".join(chunks), _no_number)
    except ValueError as error:
        raise Refusal(400, "bad_request", "The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Refusal(400, "bad_request", "The body must be a JSON object.")
    return body


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _word(known: type[W], what: str, given: str) -> W:
    try:
        return known(given)
    except ValueError as error:
        raise BadRequest(f"{what} {quoted(given)} is not one of {', '.join(known)}") from error


def _flag(query: QueryParams, name: str) -> bool | None:
    value = query.get(name, "")
    if value not in ("", "true", "false"):
        raise BadRequest(f"{name} must be true or false, not {quoted(value)}")
    return {"": None, "true": True, "false": False}[value]


def _time(query: QueryParams, name: str) -> float | None:
    value = query.get(name, "")
    if not value:
        return None
    if not TIME.fullmatch(value):
        raise BadRequest(f"{name} must be a time in seconds since 1970, not {quoted(value)}")
    return float(value)


def _limit(query: QueryParams) -> int:
    value = query.get("limit") or str(LIMIT)
    if not value.isdecimal() or len(value) > 4 or not 1 <= int(value) <= MAX_LIMIT:
        raise BadRequest(f"limit must be 1 to {MAX_LIMIT}, not {quoted(value)}")
    return int(value)


def _estimate(found: Estimate) -> EstimateAnswer:
    plan, memory, download = found.plan, found.memory, found.download
    shape = plan.shape
    video = plan if isinstance(plan, VideoPlan) else None
    frame = (shape.width, shape.height) if shape else None
    crops = {
        name: crop_of((image.width, image.height), frame, name)
        for name, image in plan.images.items()
        if frame is not None
    }
    return EstimateAnswer(
        kind=plan.kind,
        task=plan.task,
        model=plan.model,
        what=what_it_makes(plan),
        width=shape.width if shape else None,
        height=shape.height if shape else None,
        num_frames=video.num_frames if video else None,
        fps=video.fps if video else None,
        duration_s=video.duration_s if video else None,
        steps=plan.steps_run if shape else None,
        notes=list(plan.notes),
        seconds=found.seconds,
        wait_s=found.wait_s,
        jobs_ahead=found.jobs_ahead,
        needed_bytes=memory.needed if memory else None,
        memory_bytes=memory.available if memory else None,
        fits=found.misfit is None,
        fit=found.fit,
        misfit=found.misfit,
        fitting=_fitting(found),
        action=_way_out(found),
        download_bytes=found.download_bytes,
        download_s=download.seconds if download else None,
        download_folder=str(download.folder) if download else None,
        download_free_bytes=download.free if download else None,
        download_needs_consent=download is not None and download.needs_consent,
        image_crop=crops.get("image"),
        last_image_crop=crops.get("last_image"),
    )


def _fitting(found: Estimate) -> list[Fitting]:
    if found.memory is None or found.memory.misfit is None:
        return []
    return [
        Fitting(name=size.name, width=size.width, height=size.height, frames=frames)
        for size, frames in found.memory.fitting
    ]


def _way_out(found: Estimate) -> Action | None:
    """Return the button that makes it fit, or that gets the model."""
    fitting = _fitting(found)
    if fitting:
        best = max(fitting, key=lambda size: (size.width * size.height, size.frames))
        values: dict[str, Any] = {"resolution": best.name}
        if isinstance(found.plan, VideoPlan) and best.frames < found.plan.num_frames:
            values["num_frames"] = best.frames
        return Action(do="change", label=f"Use {best.name}", model=found.plan.model, values=values)
    if found.misfit is None and found.download_bytes:
        return Action(do="get_model", label=f"Get {in_bytes(found.download_bytes)}", model=found.plan.model)
    return None
