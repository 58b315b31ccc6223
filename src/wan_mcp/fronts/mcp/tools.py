"""The ten tools. Their names and parameters are a stable contract; their descriptions are read by models.

A tool checks how long it may wait, passes a request to the job service, and returns the job as
it is when the wait is over. It never cancels a job because its caller has disconnected.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any

from mcp.server.mcpserver.tools import Tool
from mcp.types import CallToolResult, ToolAnnotations
from pydantic import BeforeValidator, Field
from starlette.requests import Request as HttpRequest

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.mcp import icons
from wan_mcp.fronts.mcp.client_roots import ClientRoots
from wan_mcp.fronts.mcp.default_models import naming_its_default
from wan_mcp.fronts.mcp.discreet_results import discreet_result
from wan_mcp.fronts.mcp.dry_runs import dry_run_result
from wan_mcp.fronts.mcp.host_patience import patience_of
from wan_mcp.fronts.mcp.job_list import JobListOutline, job_list
from wan_mcp.fronts.mcp.model_list import ModelListOutline, ModelLists
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.player_app import PLAYER_META
from wan_mcp.fronts.mcp.progress import ProgressReports
from wan_mcp.fronts.mcp.results import OF_A_JOB, JobOutline, deleted_result, job_result
from wan_mcp.fronts.mcp.tasks import takes_tasks
from wan_mcp.fronts.mcp.tool_builder import Call, build_tool
from wan_mcp.fronts.mcp.upload_links import offering_a_link
from wan_mcp.fronts.mcp.web_images import naming_urls
from wan_mcp.fronts.mcp.wording import Asked
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.changes import Changes
from wan_mcp.schema.enums import JobState, Kind, Task
from wan_mcp.schema.parameters import Model, unfold
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.service.previews import live_preview
from wan_mcp.service.remix import Remix
from wan_mcp.service.service import JobService, JobView
from wan_mcp.service.terms import Terms
from wan_mcp.text import number

__all__ = ["QUICK_TOOLS", "build_tools"]

QUICK_TOOLS = ("list_resolutions", "list_jobs", "keep_job", "delete_job")
"""Tools that answer at once, and never with progress."""
CANCEL_WAIT_S = 5.0  # long enough for most models' step, so that the answer is usually the end

JobAnswer = Annotated[CallToolResult, JobOutline]

HINTS = {
    "video": "make create animate a video, clip, movie, film, animation from text or from a picture, photo, image",
    "image": "make create draw paint generate edit change a picture, image, photo, drawing, illustration, art",
    "caption": "describe caption explain what a picture, image, photo or video shows; alt text, prompt from an image",
    "models": "list models, sizes, resolutions, styles, presets, durations; which model fits this machine, how long",
    "job": "get result, status, progress of a video, image or caption job; wait for it, download the file",
    "cancel": "cancel stop abort a running video, image or caption job",
    "jobs": "list search find jobs, history, queue, recent or old videos, pictures and captions; find a lost job",
    "remix": "change repeat redo vary retry an earlier job: another seed, prompt, size, length; variation of a result",
    "delete": "delete remove throw away a finished job and its files; free disk space",
    "keep": "keep pin favourite protect a job and its files from deletion",
}
"""Words of a search by which a host that loads tools on demand finds each."""

AnyCase = BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)
"""Annotates words that mean the same in capitals."""

WaitS = Annotated[float | None, Field(ge=0, description="Seconds to wait (default 45).")]
RequestId = Annotated[
    str | None,
    Field(max_length=200, description="Idempotency key."),
]
Download = Annotated[bool | None, Field(description="Allow a large download, if the user agrees.")]
DryRun = Annotated[bool | None, Field(description="Only estimate; make nothing.")]
Preview = Annotated[bool, Field(description="With a picture of the result so far.")]
JobId = Annotated[str, Field(description="Job id.")]


def _client_of(ctx: Call) -> str:
    """Return the name that a client gives people for itself; empty if it gives none.

    Over HTTP, each message of the older protocol stands alone and does not say; the client's `User-Agent` does.
    """
    about, request = ctx.session.client_params, ctx.request_context.request
    name = ""
    if about is not None:
        name = about.client_info.title or about.client_info.name
    elif isinstance(request, HttpRequest):
        name = request.headers.get("user-agent", "").partition("/")[0]
    return name


def _one_of(words: Iterable[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}"


class _Tools:
    """The functions behind the tools."""

    def __init__(self, service: JobService, clock: Callable[[], float] = time.monotonic) -> None:
        self._service = service
        self._clock = clock
        self._models = ModelLists(service)
        self._roots = ClientRoots()

    async def generate_video(
        self,
        ctx: Call,
        request: VideoRequest,
        wait_s: WaitS = None,
        request_id: RequestId = None,
        download: Download = None,
        dry_run: DryRun = None,
    ) -> JobAnswer:
        """Make a short video from a prompt; with image, one that starts from that image. Returns its path, a wan://
        address and a sheet of its frames; after wait_s, a job_id for get_job.
        list_resolutions lists what the models can show, their lengths and times."""
        return await self._run(ctx, Remix(request), wait_s, request_id, Terms.of(download, dry_run))

    async def generate_image(
        self,
        ctx: Call,
        request: ImageRequest,
        wait_s: WaitS = None,
        request_id: RequestId = None,
        download: Download = None,
        dry_run: DryRun = None,
    ) -> JobAnswer:
        """Make an image from a prompt; with image, a variation of that image. Returns its path, a wan://
        address that can start a video, and a small preview; after wait_s, a job_id."""
        return await self._run(ctx, Remix(request), wait_s, request_id, Terms.of(download, dry_run))

    async def caption_image(
        self,
        ctx: Call,
        request: CaptionRequest,
        wait_s: WaitS = None,
        request_id: RequestId = None,
        download: Download = None,
        dry_run: DryRun = None,
    ) -> JobAnswer:
        """Describe an image or a video in words."""
        return await self._run(ctx, Remix(request), wait_s, request_id, Terms.of(download, dry_run))

    async def list_resolutions(
        self,
        model: Model = None,
        task: Annotated[Task | None, AnyCase, Field(description=f"Only models that do this: {_one_of(Task)}.")] = None,
    ) -> Annotated[CallToolResult, ModelListOutline]:
        """List the models: what they make, the default, how each fits this machine, and usual seconds; and the styles.
        With model: its sizes, lengths, limits, defaults, presets and caption types."""
        return await self._models.answer(model, task)

    async def get_job(self, ctx: Call, job_id: JobId, wait_s: WaitS = None, preview: Preview = False) -> JobAnswer:
        """Get a job's result, waiting up to wait_s; or its stage, progress and time left."""
        began, seconds = self._clock(), self._seconds(ctx, wait_s)
        reports = ProgressReports(ctx.report_progress)
        return await self._follow(ctx, job_id, began + seconds, reports, Asked(preview=preview))

    async def cancel_job(self, ctx: Call, job_id: JobId) -> JobAnswer:
        """Stop a queued or running job; finished jobs are unchanged."""
        before = await self._service.view(job_id)
        await self._service.cancel(job_id)
        view = await self._service.wait(job_id, min(CANCEL_WAIT_S, self._service.settings.wait_s))
        return await self._answer(ctx, view, Asked(to_stop=True, had_ended=before.job.state.final))

    async def remix(
        self,
        ctx: Call,
        job_id: JobId,
        request: Changes,
        wait_s: WaitS = None,
        request_id: RequestId = None,
        download: Download = None,
        dry_run: DryRun = None,
    ) -> JobAnswer:
        """Run an earlier job again with changes, also a failed or cancelled one. Pass only what changes: seed='new' for
        another result, or any parameter of the tool that made it."""
        async with self._offering_a_link(ctx):
            remix = await self._service.remix(job_id, request, elsewhere=self._is_elsewhere(ctx))
        return await self._run(ctx, remix, wait_s, request_id, Terms.of(download, dry_run))

    async def delete_job(self, job_id: JobId) -> JobAnswer:
        """Delete a finished job and its files for good. Kept jobs stay; cancel a running job first."""
        return deleted_result(await self._service.delete(job_id))

    async def keep_job(
        self,
        ctx: Call,
        job_id: JobId,
        kept: Annotated[bool, Field(description="false: it may be deleted again.")] = True,
    ) -> JobAnswer:
        """Protect a job and its files from deletion."""
        return await self._answer(ctx, await self._service.keep(job_id, kept), Asked(to_keep=kept))

    async def list_jobs(
        self,
        query: Annotated[str | None, Field(description="Words in the prompt or caption.")] = None,
        kind: Annotated[Kind | None, AnyCase, Field(description=f"{_one_of(Kind)}.")] = None,
        model: Annotated[str | None, Field(description="Model name.")] = None,
        status: Annotated[JobState | None, AnyCase, Field(description=f"{_one_of(JobState)}.")] = None,
        before: Annotated[str | None, Field(description="Job id: only older jobs.")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="Maximum number of jobs to return.")] = 20,
    ) -> Annotated[CallToolResult, JobListOutline]:
        """Find jobs of all clients, newest first, finished ones included."""
        states = () if status is None else (status,)
        return job_list(
            await self._service.find(query, kind=kind, model=model, states=states, before=before, limit=limit)
        )

    async def _run(
        self, ctx: Call, asked: Remix, wait_s: float | None, request_id: str | None, terms: Terms
    ) -> CallToolResult:
        if wait_s is None and takes_tasks(ctx.request_context):
            wait_s = 0.0  # the answer is a task, which needs no open call
        began, seconds = self._clock(), self._seconds(ctx, wait_s)
        reports = ProgressReports(ctx.report_progress)
        await reports.begin("Checking the request")
        elsewhere = self._is_elsewhere(ctx)
        self._service.admission.open_folders(await self._roots.of_call(ctx, asked.request))
        async with self._offering_a_link(ctx):
            if terms.dry_run:
                found = await self._service.estimate(
                    asked.request, asked.images, client=_client_of(ctx), elsewhere=elsewhere
                )
                return await dry_run_result(self._service, found)
            view = await self._service.submit(
                asked.request,
                request_id,
                client=_client_of(ctx),
                parent=asked.parent,
                images=asked.images,
                elsewhere=elsewhere,
                download=terms.download,
            )
        return await self._follow(ctx, view.job.id, began + seconds, reports)

    async def _follow(
        self, ctx: Call, job_id: str, until: float, reports: ProgressReports, asked: Asked = OF_A_JOB
    ) -> CallToolResult:
        """Wait for a job at most `until` (on our clock) and report its progress."""

        async def look(view: JobView) -> None:
            if asked.preview:
                await live_preview(self._service, view.job)
            await reports.show(view)

        view = await self._service.wait(job_id, max(0.0, until - self._clock()), look)
        await reports.finish(view)
        return await self._answer(ctx, view, asked)

    async def _answer(self, ctx: Call, view: JobView, asked: Asked) -> CallToolResult:
        return await job_result(self._service, view, Places.of(self._service.media, ctx), asked)

    def _offering_a_link(self, ctx: Call) -> AbstractAsyncContextManager[None]:
        return offering_a_link(self._service, Places.of(self._service.media, ctx))

    def _is_elsewhere(self, ctx: Call) -> bool:
        return not Places.of(self._service.media, ctx).same_machine

    def _seconds(self, ctx: Call, wait_s: float | None) -> float:
        """Return how long a call waits: what it asks for, else what the owner has set, else what its host allows."""
        settings = self._service.settings
        if wait_s is None:
            patience = None if "wait_s" in settings.model_fields_set else patience_of(ctx)
            return min(settings.wait_s if patience is None else patience, settings.max_wait_s)
        if not wait_s <= settings.max_wait_s:  # NaN is refused too
            raise BadRequest(
                f"wait_s {number(wait_s)} is too long; the limit is {number(settings.max_wait_s)} s. "
                "Use a shorter wait and call get_job again: the job keeps running"
            )
        return wait_s


def build_tools(service: JobService) -> list[Tool]:
    """Build the tools of a server over `service`."""
    tools = _Tools(service)
    makes = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
    reads = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
    keeps = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
    stops = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)
    built = [
        build_tool(unfold(tools.generate_video), "Generate video", makes, HINTS["video"], icons.VIDEO, PLAYER_META),
        build_tool(unfold(tools.generate_image), "Generate image", makes, HINTS["image"], icons.IMAGE, PLAYER_META),
        build_tool(unfold(tools.caption_image), "Caption image", makes, HINTS["caption"], icons.CAPTION),
        build_tool(tools.list_resolutions, "Models, sizes and styles", reads, HINTS["models"], icons.LIST),
        build_tool(tools.get_job, "Get job", reads, HINTS["job"], icons.JOB),
        build_tool(tools.cancel_job, "Cancel job", stops, HINTS["cancel"], icons.JOB),
        build_tool(tools.list_jobs, "Find jobs", reads, HINTS["jobs"], icons.LIST),
        build_tool(unfold(tools.remix), "Remix", makes, HINTS["remix"], icons.VIDEO, PLAYER_META),
        build_tool(tools.keep_job, "Keep job", keeps, HINTS["keep"], icons.JOB),
        build_tool(tools.delete_job, "Delete job", stops, HINTS["delete"], icons.JOB),
    ]
    return [_discreet(naming_urls(naming_its_default(tool, service), service), service.media) for tool in built]


def _discreet(tool: Tool, media: MediaStore) -> Tool:
    """Return the tool with answers that tell a client elsewhere no place on this machine."""
    answer = tool.fn

    async def answer_discreetly(ctx: Call, arguments: dict[str, Any]) -> CallToolResult:
        result: CallToolResult = await answer(ctx=ctx, arguments=arguments)
        return result if Places.of(media, ctx).same_machine else discreet_result(result, media.home)

    return tool.model_copy(update={"fn": answer_discreetly})
