"""Tasks: the extension of the 2026-07-28 protocol by which a call is answered at once and its result fetched later.

A task is a view of a job, and its id is the job's. So it is as durable as the job, every front of the home serves it,
and `get_job` and `cancel_job` know it too. Nothing is stored for it. A client that does not declare the extension, or
speaks an older protocol, never meets one.

A call waits as long as its `wait_s` says, and not at all without one. If its job has not ended by then, the answer is
the task. The specification: SEP-2663, `modelcontextprotocol/ext-tasks`.
"""

from typing import Any, Literal

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.shared.inbound import MCP_NAME_HEADER, decode_header_value
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, CallToolRequestParams, CallToolResult, RequestParams
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import Field
from starlette.requests import Request

from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.discretion import discreet
from wan_mcp.fronts.mcp.discreet_results import discreet_result, protocol_error
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.results import job_result
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.describe import fraction_of, sentence
from wan_mcp.service.retention import expires_at
from wan_mcp.service.service import JobService, JobView
from wan_mcp.text import instant

__all__ = ["TASKS", "Tasks", "takes_tasks", "task_now"]

TASKS = "io.modelcontextprotocol/tasks"
ERAS = frozenset(MODERN_PROTOCOL_VERSIONS)
TOOLS = frozenset({"generate_video", "generate_image", "caption_image", "remix"})
"""The tools that start a job. The others answer at once."""
MIN_POLL_S, MAX_POLL_S = 0.5, 5.0
POLLS = 20  # of a job, as far as its time is known

Context = ServerRequestContext[Any, Any]
Status = Literal["working", "completed", "cancelled"]
STATUS: dict[JobState, Status] = {
    JobState.QUEUED: "working",
    JobState.RUNNING: "working",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "completed",  # `failed` is for errors of the protocol; here the call has a result that says why
    JobState.CANCELLED: "cancelled",
}


class TaskParams(RequestParams):
    """Parameters of `tasks/get` and `tasks/cancel`."""

    task_id: str


class TaskUpdateParams(TaskParams):
    """Parameters of `tasks/update`."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


def takes_tasks(ctx: Context) -> bool:
    """Check whether the client of a request may be answered with a task."""
    capabilities = ctx.session.client_capabilities
    declared = capabilities.extensions if capabilities is not None else None
    return ctx.protocol_version in ERAS and TASKS in (declared or {})


class Tasks(Extension):
    """The extension, over the jobs of a service."""

    identifier = TASKS

    def __init__(self, service: JobService) -> None:
        self._service = service

    def methods(self) -> list[MethodBinding]:
        """Return the methods that it adds to the protocol."""
        return [
            MethodBinding("tasks/get", TaskParams, self._get, ERAS),
            MethodBinding("tasks/update", TaskUpdateParams, self._update, ERAS),
            MethodBinding("tasks/cancel", TaskParams, self._cancel, ERAS),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: Context, call_next: CallNext
    ) -> HandlerResult:
        """Answer with a task where the call's job has not ended."""
        result = await call_next(ctx)
        if params.name not in TOOLS or not takes_tasks(ctx) or not isinstance(result, CallToolResult):
            return result
        facts = result.structured_content or {}
        if result.is_error or facts.get("status") not in (JobState.QUEUED, JobState.RUNNING):
            return result
        try:
            view = await self._service.view(facts["job_id"])
        except UserError:  # it was deleted meanwhile, or the job table has just failed
            return result
        return {"resultType": "task", **_task(self._service, view, Places.of_request(self._service.media, ctx.request))}

    async def _get(self, ctx: Context, params: TaskParams) -> HandlerResult:
        view = await self._view(ctx, params.task_id)
        return await task_now(self._service, view, Places.of_request(self._service.media, ctx.request))

    async def _update(self, ctx: Context, params: TaskUpdateParams) -> HandlerResult:
        """Acknowledge. No job asks for anything, and responses to questions never asked are to be ignored."""
        await self._view(ctx, params.task_id)
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> HandlerResult:
        await self._view(ctx, params.task_id)
        await self._service.cancel(params.task_id)
        return {}

    async def _view(self, ctx: Context, task_id: str) -> JobView:
        """Return the job of a task.

        Raises:
            MCPError: The client has not declared the extension, its header names another task, or there is none.
        """
        require_client_extension(ctx, TASKS)
        _require_header(ctx, task_id)
        try:
            return await self._service.view(task_id)
        except UnknownJob as error:
            raise MCPError(INVALID_PARAMS, f"no task of this id: {error}") from error
        except UserError as error:
            raise protocol_error(error, Places.of_request(self._service.media, ctx.request)) from error


def _require_header(ctx: Context, task_id: str) -> None:
    """Check the header by which proxies find a task's server; the SDK (2.3) checks it for methods of its own only."""
    if not isinstance(ctx.request, Request):
        return
    named = decode_header_value(ctx.request.headers.get(MCP_NAME_HEADER))
    if named != task_id:
        raise MCPError(HEADER_MISMATCH, f"the {MCP_NAME_HEADER} header must name the task of the body's 'taskId'")


async def task_now(service: JobService, view: JobView, places: Places) -> dict[str, Any]:
    """Return a task as it is now, with the result of its call if it has one."""
    task = _task(service, view, places)
    if task["status"] == "completed":
        result = await job_result(service, view, places)
        if not places.same_machine:
            result = discreet_result(result, service.settings.home)
        task["result"] = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return task


def _task(service: JobService, view: JobView, places: Places) -> dict[str, Any]:
    job = view.job
    words = sentence(view)
    if not job.state.final:
        words = f"{fraction_of(job):.0%} done. {words}"
    return {
        "taskId": job.id,
        "status": STATUS[job.state],
        "statusMessage": words if places.same_machine else discreet(words, service.settings.home),
        "createdAt": instant(job.created_at),
        "lastUpdatedAt": instant(job.finished_at or job.updated_at or job.started_at or job.created_at),
        "ttlMs": _kept_ms(job, service),
        "pollIntervalMs": _poll_ms(view),
    }


def _kept_ms(job: Job, service: JobService) -> int | None:
    """Return how long after its creation a job is deleted by its age; None if never, or if it is not known yet."""
    end = expires_at(job, service.settings)
    return None if end is None else round(1000 * (end - job.created_at))


def _poll_ms(view: JobView) -> int:
    left_s = MAX_POLL_S if view.eta_s is None else view.eta_s / POLLS
    return round(1000 * min(MAX_POLL_S, max(MIN_POLL_S, left_s)))
