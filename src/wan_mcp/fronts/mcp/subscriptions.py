"""Subscriptions to jobs: notifications for clients of both protocol eras when a job changes.

- 2026-07-28: `subscriptions/listen` is a request whose answer is a stream. It carries `notifications/resources/updated`
  and, for clients of the Tasks extension that name `taskIds`, `notifications/tasks` with the whole task.
- Before: `resources/subscribe`. The notifications need a connection that stays, which stdio is. Over HTTP this server
  keeps no sessions, so it neither offers nor serves it there.

The addresses that can be followed are `wan://jobs/{id}` of jobs that exist, and `wan://gallery`. Nothing else changes:
the lists of tools, prompts and resources are fixed, and a finished file stays as it is. The SDK (2.3) would promise all
of that to every client of the newer protocol, so what is promised is set here.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.mcpserver import MCPServer, require_client_extension
from mcp.server.session import ServerSession
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY, ResourceUpdated, event_to_notification
from mcp.types import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    ServerNotification,
    SubscribeRequestParams,
    SubscriptionFilter,
    SubscriptionsAcknowledgedNotification,
    SubscriptionsAcknowledgedNotificationParams,
    SubscriptionsListenRequestParams,
    SubscriptionsListenResult,
    UnsubscribeRequestParams,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import BaseModel

from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.mcp.discreet_results import protocol_error
from wan_mcp.fronts.mcp.job_updates import GALLERY, Follower, JobUpdates, job_uri
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.tasks import TASKS, task_now
from wan_mcp.service.background import background
from wan_mcp.service.service import JobService
from wan_mcp.text import quoted

__all__ = ["Subscriptions"]

MAX_STREAMS = 256
"""Of one front, at once."""
MAX_FOLLOWED = 100
"""Addresses and tasks of one stream, or of one connection of the older protocol."""

Context = ServerRequestContext[Any, Any]


class TaskNotification(BaseModel):
    """`notifications/tasks`, which the SDK has no type for."""

    method: str = "notifications/tasks"
    params: dict[str, Any]


class Subscriptions:
    """A middleware that serves subscriptions. `lifespan` is the server's."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._open: set[JobUpdates] = set()

    @asynccontextmanager
    async def lifespan(self, server: MCPServer[Any]) -> AsyncIterator["_Connection"]:
        """Follow the jobs until the block ends: of a connection on stdio, of all of them over HTTP."""
        updates = JobUpdates(self._service)
        self._open.add(updates)
        try:
            async with AsyncExitStack() as stack, updates.running():
                connection = _Connection(updates, stack)
                async with background(connection.notify):
                    yield connection
        finally:
            self._open.discard(updates)

    def close(self) -> None:
        """End all streams: the server stops."""
        for updates in self._open:
            updates.close()

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve a request."""
        modern = ctx.protocol_version in MODERN_PROTOCOL_VERSIONS
        older = not modern and _stays(ctx) and ctx.session.client_params is not None
        try:
            match ctx.method:
                case "server/discover":
                    return _promising(await call_next(ctx), subscribe=True)
                case "initialize":
                    return _promising(await call_next(ctx), subscribe=_stays(ctx))
                case "subscriptions/listen" if modern:
                    return await self._listen(ctx)
                case "resources/subscribe" if older:
                    return await self._subscribe(ctx)
                case "resources/unsubscribe" if older:
                    params = UnsubscribeRequestParams.model_validate(ctx.params or {}, by_name=False)
                    ctx.lifespan_context.forget(params.uri)
                    return {}
        except UserError as error:
            raise protocol_error(error, Places.of_request(self._service.media, ctx.request)) from error
        return await call_next(ctx)

    async def _subscribe(self, ctx: Context) -> HandlerResult:
        params = SubscribeRequestParams.model_validate(ctx.params or {}, by_name=False)
        address = str(params.uri)
        if not await self._can_change(address):
            raise MCPError(
                INVALID_PARAMS,
                f"nothing at {quoted(address)} can change; subscribe to {job_uri('ID')} of a job that list_jobs names, "
                f"or to {GALLERY}",
                {"uri": address},
            )
        connection: _Connection = ctx.lifespan_context
        await connection.follow(address, ctx.session)
        return {}

    async def _listen(self, ctx: Context) -> HandlerResult:
        """Answer with a stream, which lasts until its client goes or the server stops."""
        params = SubscriptionsListenRequestParams.model_validate(ctx.params or {}, by_name=False)
        asked = params.notifications
        addresses = list(dict.fromkeys(asked.resource_subscriptions or ()))
        tasks = _task_ids(asked)
        if tasks:
            require_client_extension(ctx, TASKS)
        if len(addresses) + len(tasks) > MAX_FOLLOWED:
            raise MCPError(INVALID_PARAMS, f"one stream follows at most {MAX_FOLLOWED} resources and tasks")
        updates: JobUpdates = ctx.lifespan_context.updates
        if len(updates) >= MAX_STREAMS:
            raise MCPError(INTERNAL_ERROR, f"{MAX_STREAMS} streams are open, which is the limit; poll get_job instead")
        async with updates.following() as follower:
            known = [address for address in addresses if await self._can_change(address)]
            tasks = [task for task in tasks if await self._can_change(job_uri(task))]
            follower.wanted = {*known, *map(job_uri, tasks)}
            meta = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
            honoured = {"resourceSubscriptions": known or None, "taskIds": tasks or None}
            kept = SubscriptionFilter.model_validate({key: value for key, value in honoured.items() if value})
            acknowledgement = SubscriptionsAcknowledgedNotificationParams(notifications=kept, _meta=meta)
            await _send(ctx, SubscriptionsAcknowledgedNotification(params=acknowledgement))
            async for address in follower.changes():
                if address in known:
                    await _send(ctx, event_to_notification(ResourceUpdated(address), meta))
                if (task_id := address.rpartition("/")[2]) in tasks:
                    await self._send_task(ctx, task_id, meta)
        result = SubscriptionsListenResult(_meta=meta).model_dump(mode="json", by_alias=True, exclude_none=True)
        return {"resultType": "complete", **result}

    async def _send_task(self, ctx: Context, task_id: str, meta: dict[str, Any]) -> None:
        places = Places.of_request(self._service.media, ctx.request)
        try:
            task = await task_now(self._service, await self._service.view(task_id), places)
        except UserError:  # it was deleted, of which `tasks/get` tells
            return
        await _send(ctx, cast(ServerNotification, TaskNotification(params={**task, "_meta": meta})))

    async def _can_change(self, address: str) -> bool:
        if address == GALLERY:
            return True
        prefix, _, job_id = address.rpartition("/")
        if f"{prefix}/" != job_uri("") or not job_id:
            return False
        try:
            await self._service.view(job_id)
        except UnknownJob:
            return False
        return True


class _Connection:
    """What lasts as long as the server's lifespan. On stdio, that is one client's connection."""

    def __init__(self, updates: JobUpdates, stack: AsyncExitStack) -> None:
        self.updates = updates
        self._stack = stack
        self._follower: Follower | None = None
        self._session: ServerSession | None = None
        self._begun = anyio.Event()

    async def follow(self, address: str, session: ServerSession) -> None:
        """Notify the client of an older protocol when a resource changes."""
        if self._follower is None:
            self._follower = await self._stack.enter_async_context(self.updates.following())
            self._session = session
            self._begun.set()
        if len(self._follower.wanted | {address}) > MAX_FOLLOWED:
            raise MCPError(INVALID_PARAMS, f"at most {MAX_FOLLOWED} resources can be subscribed to at once")
        self._follower.wanted.add(address)

    def forget(self, address: str) -> None:
        """Notify of a resource no more."""
        if self._follower is not None:
            self._follower.wanted.discard(address)

    async def notify(self) -> None:
        """Send the notifications, until the connection ends."""
        await self._begun.wait()
        assert self._follower is not None and self._session is not None
        async for address in self._follower.changes():
            await self._session.send_resource_updated(address)


def _stays(ctx: Context) -> bool:
    """Check whether the connection lasts longer than the request."""
    return ctx.request is None


def _promising(result: HandlerResult, *, subscribe: bool) -> HandlerResult:
    """Return what a server says of itself, with the notifications that it really sends."""
    if not isinstance(result, Mapping):
        return result
    capabilities = dict(result.get("capabilities") or {})
    for what in ("tools", "prompts", "resources"):
        if what in capabilities:
            capabilities[what] = {**capabilities[what], "listChanged": False}
    if "resources" in capabilities:
        capabilities["resources"]["subscribe"] = subscribe
    return {**result, "capabilities": capabilities}


def _task_ids(asked: SubscriptionFilter) -> list[str]:
    named: Any = (asked.model_extra or {}).get("taskIds")
    if named is None:
        return []
    if not isinstance(named, Iterable) or isinstance(named, str) or not all(isinstance(each, str) for each in named):
        raise MCPError(INVALID_PARAMS, "taskIds must be a list of texts")
    return list(dict.fromkeys(named))


async def _send(ctx: Context, notification: ServerNotification) -> None:
    await ctx.session.send_notification(notification, related_request_id=ctx.request_id)
