"""Subscriptions: clients of both eras hear of jobs that change, whichever process changes them."""

from typing import Any

import anyio
import pytest
from mcp import Client, MCPError
from mcp.client.stdio import stdio_client
from mcp.types import Request, ResourceUpdatedNotification, Result, SubscribeRequestParams

from tests.fixtures.mcp_server import ERAS, Connect, Pace
from tests.support.http_fronts import running, site
from tests.support.patience import PATIENCE_S
from tests.support.stdio_fronts import front
from tests.support.task_client import Task, TaskExtension, ask_for
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

VIDEO: dict[str, Any] = {"prompt": "a red circle", "steps": 4}
GALLERY = "wan://gallery"


class Heard:
    """What a client of the older protocol is notified of."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._news = anyio.Event()

    async def __call__(self, message: Any) -> None:
        """Keep an address."""
        if isinstance(message, ResourceUpdatedNotification):
            self.addresses.append(message.params.uri)
            self._news.set()
            self._news = anyio.Event()

    async def until(self, address: str) -> None:
        """Wait until the client has heard of an address."""
        while address not in self.addresses:
            await self._news.wait()


async def subscribe(client: Client, address: str, method: str = "resources/subscribe") -> None:
    """Subscribe as the older protocol does."""
    params = SubscribeRequestParams(uri=address)
    await client.session.send_request(Request[SubscribeRequestParams, str](method=method, params=params), Result)


async def test_a_stream_tells_of_the_jobs_that_it_was_asked_for(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id, other = await runner.start(), await runner.start()
            wanted = [f"wan://jobs/{job_id}", GALLERY, "wan://jobs/nosuchjob", "wan://videos/x.mp4"]
            async with runner.client.listen(resource_subscriptions=wanted, tools_list_changed=True) as stream:
                assert (stream.honored.resource_subscriptions, stream.honored.tools_list_changed) == (wanted[:2], None)
                pace.allow(100)
                heard: set[str] = set()
                async for event in stream:
                    heard.add(event.uri)  # type: ignore[union-attr]
                    if GALLERY in heard and (await runner.service.view(other)).job.state.final:
                        break
            assert heard == {f"wan://jobs/{job_id}", GALLERY}
            assert (await runner.service.view(job_id)).job.state.final


async def test_the_older_protocol_subscribes_over_stdio(settings: Settings, pace: Pace) -> None:
    """The change is another process's: the one that deletes the job."""
    heard = Heard()
    with anyio.fail_after(PATIENCE_S):
        async with (
            serving(settings) as elsewhere,
            Client(stdio_client(front(settings)), mode="legacy", message_handler=heard) as client,
        ):
            capabilities = client.server_capabilities
            assert capabilities.resources is not None
            assert (capabilities.resources.subscribe, capabilities.resources.list_changed) == (True, False)
            jobs = []
            for _ in range(2):
                answer = await client.call_tool("generate_video", {**VIDEO, "wait_s": 0})
                jobs.append(answer.structured_content["job_id"])
            first, second = (f"wan://jobs/{job}" for job in jobs)
            for address in (first, second, GALLERY):
                await subscribe(client, address)
            await subscribe(client, second, "resources/unsubscribe")
            await elsewhere.cancel(jobs[1])
            await elsewhere.cancel(jobs[0])
            await heard.until(first)
            pace.allow(100)
            await elsewhere.wait(jobs[0], PATIENCE_S)
            await elsewhere.delete(jobs[0])
            await heard.until(GALLERY)
            assert second not in heard.addresses


@pytest.mark.parametrize(
    "address", ["wan://jobs/nosuchjob", "wan://guides/prompting", "file:///etc/passwd", "wan://jobs/"]
)
async def test_what_never_changes_cannot_be_subscribed_to(settings: Settings, connect: Connect, address: str) -> None:
    async with connect(settings, "legacy") as runner:
        with pytest.raises(MCPError) as caught:
            await subscribe(runner.client, address)
        assert caught.value.error.code == -32602
        assert address in caught.value.error.message


async def test_subscriptions_are_bounded(settings: Settings, connect: Connect, pace: Pace) -> None:
    many = [f"wan://jobs/{number}" for number in range(101)]
    async with connect(settings) as runner:
        with pytest.raises(MCPError, match="at most 100"):
            async with runner.client.listen(resource_subscriptions=many):
                pass


async def test_over_http_only_what_is_kept_is_promised(settings: Settings) -> None:
    """The older protocol has no connection there that could carry a notification."""
    async with site(settings) as server:
        async with server.client("legacy") as client:
            assert client.server_capabilities.resources is not None
            assert client.server_capabilities.resources.subscribe is False
            with pytest.raises(MCPError) as caught:
                await subscribe(client, GALLERY)
            assert caught.value.error.code == -32601
        async with server.client("auto") as client:
            capabilities = client.server_capabilities
            assert capabilities.resources is not None
            assert capabilities.tools is not None
            assert capabilities.prompts is not None
            assert capabilities.resources.subscribe is True
            assert capabilities.resources.list_changed is False
            assert capabilities.tools.list_changed is False
            assert capabilities.prompts.list_changed is False


async def test_tasks_are_pushed_to_a_stream_that_names_them(settings: Settings, pace: Pace) -> None:
    tasks = TaskExtension()
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as server, server.client(extensions=[tasks]) as client:
            task = await ask_for(client, "generate_video", **VIDEO)
            assert isinstance(task, Task)
            async with anyio.create_task_group() as group:
                group.start_soon(_listen, client, {"taskIds": [task.task_id, "nosuchtask"]})
                await tasks.until(lambda pushed: bool(pushed))
                pace.allow(100)
                await tasks.until(lambda pushed: pushed["status"] == "completed")
                group.cancel_scope.cancel()
    *_, last = tasks.pushed
    assert {pushed["taskId"] for pushed in tasks.pushed} == {task.task_id}
    assert last["result"]["structuredContent"]["status"] == "succeeded"


async def test_tasks_are_pushed_only_to_clients_that_declare_them(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        with pytest.raises(MCPError) as caught:
            await _listen(runner.client, {"taskIds": ["x"]})
    assert caught.value.error.code == -32021


async def test_a_server_that_stops_ends_its_streams_in_good_order(settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S), running(settings) as server:
        async with (
            Client(f"{server.url}/mcp", mode=ERAS[1]) as client,
            client.listen(resource_subscriptions=[GALLERY]) as stream,
        ):
            server.process.terminate()
            assert [event async for event in stream] == []
        assert await anyio.to_thread.run_sync(server.process.wait, PATIENCE_S) == 0
        assert "Traceback" not in server.log


async def _listen(client: Client, notifications: dict[str, Any]) -> None:
    request = Request[dict[str, Any], str](method="subscriptions/listen", params={"notifications": notifications})
    await client.session.send_request(request, Result)
