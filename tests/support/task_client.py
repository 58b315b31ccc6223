"""The client's half of the Tasks extension, which the SDK leaves to libraries."""

from collections.abc import Callable
from typing import Any, Literal

import anyio
from mcp import Client
from mcp.client.extension import ClaimContext, ClientExtension, NotificationBinding, ResultClaim
from mcp.types import CallToolResult, Request, Result
from pydantic import BaseModel, ConfigDict

__all__ = ["Task", "TaskExtension", "ask", "ask_for", "until"]

Answer = dict[str, Any]


class Task(Result):
    """The answer of a call that has become a task."""

    result_type: Literal["task"] = "task"
    task_id: str
    status: str
    status_message: str
    created_at: str
    last_updated_at: str
    ttl_ms: int | None
    poll_interval_ms: int


class Pushed(BaseModel):
    """The parameters of `notifications/tasks`."""

    model_config = ConfigDict(extra="allow")


class TaskExtension(ClientExtension):
    """Declares the extension; `pushed` collects the notifications of tasks."""

    identifier = "io.modelcontextprotocol/tasks"

    def __init__(self) -> None:
        self.pushed: list[Answer] = []
        self._news = anyio.Event()

    async def until(self, wanted: Callable[[Answer], bool]) -> None:
        """Wait until a notification is as wanted."""
        while not any(wanted(pushed) for pushed in self.pushed):
            await self._news.wait()

    def claims(self) -> list[ResultClaim[Any]]:
        """Take tasks as answers."""

        async def resolve(task: Task, context: ClaimContext) -> CallToolResult:
            raise NotImplementedError("these tests ask for tasks themselves")

        return [ResultClaim(result_type="task", model=Task, resolve=resolve)]

    def notifications(self) -> list[NotificationBinding[Any]]:
        """Hear of tasks."""

        async def keep(params: Pushed) -> None:
            self.pushed.append(params.model_extra or {})
            self._news.set()
            self._news = anyio.Event()

        return [NotificationBinding(method="notifications/tasks", params_type=Pushed, handler=keep)]


class _AnyResult(Result):
    model_config = ConfigDict(extra="allow")


class _TaskRequest(Request[dict[str, Any], str]):
    name_param = "taskId"


async def ask_for(client: Client, tool: str, **arguments: Any) -> Any:
    """Call a tool, and return its answer, a task or a result."""
    return await client.session.call_tool(tool, arguments, allow_claimed=True)


async def ask(client: Client, what: str, task_id: str, **params: Any) -> Answer:
    """Send `tasks/WHAT`."""
    request = _TaskRequest(method=f"tasks/{what}", params={"taskId": task_id, **params})
    answer = await client.session.send_request(request, _AnyResult)
    return answer.model_dump(mode="json", by_alias=True, exclude_none=True)


async def until(client: Client, task_id: str, status: str) -> Answer:
    """Poll a task until it has a status."""
    while True:
        task = await ask(client, "get", task_id)
        if task["status"] == status:
            return task
        assert task["status"] == "working", task
        await anyio.sleep(min(0.05, task["pollIntervalMs"] / 1000))
