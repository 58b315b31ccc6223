"""Tasks: a call is answered at once, and what it makes is fetched later, from any front."""

from typing import Any

import anyio
import pytest
from mcp import MCPError
from mcp.types import CallToolResult

from tests.fixtures.mcp_server import ERAS, Connect, Pace, Runner, denoising
from tests.support.http_fronts import site
from tests.support.patience import PATIENCE_S
from tests.support.task_client import Task, TaskExtension, ask, ask_for, until
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

VIDEO: dict[str, Any] = {"prompt": "a red circle", "steps": 4, "seed": 7}
UNKNOWN, MISSING, MISMATCH, NO_METHOD = -32602, -32021, -32020, -32601


async def begin(runner: Runner, tool: str = "generate_video", **arguments: Any) -> Task:
    """Call a tool that is answered with a task."""
    task = await ask_for(runner.client, tool, **(arguments or VIDEO))
    assert isinstance(task, Task), task
    return task


async def refusal(request: Any) -> tuple[int, str]:
    """The code and the words by which a request is refused."""
    with pytest.raises(MCPError) as caught:
        await request
    return caught.value.error.code, caught.value.error.message


async def test_a_call_becomes_a_task_that_is_the_job(settings: Settings, connect: Connect, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as runner:
            task = await begin(runner)
            [job] = await runner.service.newest()
            assert (task.task_id, task.status, task.ttl_ms) == (job.id, "working", None)
            assert task.status_message.startswith("0% done. Queued: next to run")
            pace.allow(2)
            await runner.until(job.id, lambda view: denoising(view) and view.job.progress.step == 2)  # type: ignore[union-attr]
            now = await ask(runner.client, "get", job.id)
            assert now["status"] == "working"
            assert "step 2/4" in now["statusMessage"]
            assert 0 < int(now["statusMessage"].partition("%")[0]) < 100
            assert now["lastUpdatedAt"] >= now["createdAt"]
            assert 500 <= now["pollIntervalMs"] <= 5000
            assert "result" not in now
            pace.allow(100)
            done = await until(runner.client, job.id, "completed")
            asked = await runner.client.call_tool("get_job", {"job_id": job.id})
            assert CallToolResult.model_validate(done["result"]) == asked.model_copy(update={"meta": None})
            assert done["statusMessage"].startswith("Done in ")


async def test_every_tool_that_starts_a_job_gives_a_task(settings: Settings, connect: Connect, pace: Pace) -> None:
    pace.allow(1)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as runner:
            made = await runner.call("generate_image", prompt="a square", steps=1, wait_s=PATIENCE_S)
            uri, parent = made.job["artifacts"][0]["uri"], made.job["job_id"]
            tasks = [
                await begin(runner, tool, **arguments)
                for tool, arguments in (
                    ("generate_video", VIDEO),  # without leave to do a step, it keeps the others waiting
                    ("generate_image", {"prompt": "a star"}),
                    ("caption_image", {"image": uri}),
                    ("remix", {"job_id": parent, "seed": "new"}),
                )
            ]
            pace.allow(1000)
            for task in tasks:
                done = await until(runner.client, task.task_id, "completed")
                assert done["result"]["structuredContent"]["job_id"] == task.task_id
    assert len({task.task_id for task in tasks} - {parent}) == 4


async def test_a_task_outlives_its_server(settings: Settings, connect: Connect, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as first:
            task, other = await begin(first), await begin(first)
        async with connect(settings, extensions=[TaskExtension()]) as second:
            await ask(second.client, "cancel", other.task_id)
            pace.allow(100)
            done = await until(second.client, task.task_id, "completed")
            assert (await until(second.client, other.task_id, "cancelled"))["createdAt"] == other.created_at
    assert done["createdAt"] == task.created_at
    assert done["result"]["structuredContent"]["seed"] == VIDEO["seed"]


async def test_a_cancelled_task_is_a_cancelled_job(settings: Settings, connect: Connect, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as runner:
            task = await begin(runner)
            assert (await ask(runner.client, "cancel", task.task_id))["resultType"] == "complete"
            pace.allow(100)
            ended = await until(runner.client, task.task_id, "cancelled")
            assert "result" not in ended
            await ask(runner.client, "cancel", task.task_id)  # once more changes nothing
            answer = await runner.call("get_job", job_id=task.task_id)
    assert answer.job["status"] == "cancelled"


async def test_a_job_that_fails_is_a_task_whose_result_says_why(
    settings: Settings, connect: Connect, engine: Any
) -> None:
    """`failed` is for errors of the protocol only."""
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("fails"), extensions=[TaskExtension()]) as runner:
            task = await begin(runner)
            done = await until(runner.client, task.task_id, "completed")
    assert done["result"]["structuredContent"]["status"] == "failed"
    assert done["statusMessage"] == done["result"]["structuredContent"]["error"]["message"]


async def test_what_is_answered_at_once_is_no_task(settings: Settings, connect: Connect, pace: Pace) -> None:
    pace.allow(100)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as runner:
            refused = await ask_for(runner.client, "generate_video", **VIDEO | {"steps": 9999})
            estimated = await ask_for(runner.client, "generate_video", **VIDEO, dry_run=True)
            waited = await ask_for(runner.client, "generate_video", **VIDEO, request_id="a", wait_s=PATIENCE_S)
            again = await ask_for(runner.client, "generate_video", **VIDEO, request_id="a")
            listed = await ask_for(runner.client, "list_jobs")
    assert refused.is_error
    assert estimated.structured_content["status"] == "dry_run"
    assert waited.structured_content["status"] == again.structured_content["status"] == "succeeded"
    assert listed.structured_content["jobs"][0]["job_id"] == waited.structured_content["job_id"]


async def test_a_call_waits_as_long_as_it_says_before_it_becomes_a_task(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, extensions=[TaskExtension()]) as runner:
            for wait_s in (0, 0.2):
                task = await begin(runner, **VIDEO, wait_s=wait_s)
                followed = await ask_for(runner.client, "get_job", job_id=task.task_id, wait_s=wait_s)
                assert followed.structured_content["status"] in ("queued", "running")
                # Nothing was asked of the client, and an answer to nothing is ignored.
                update = await ask(runner.client, "update", task.task_id, inputResponses={"name": {"action": "accept"}})
                assert set(update) <= {"resultType", "_meta"}
                assert (await ask(runner.client, "get", task.task_id))["status"] == "working"


async def test_a_client_that_does_not_declare_tasks_meets_none(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start()
            codes = [(await refusal(ask(runner.client, what, job_id)))[0] for what in ("get", "update", "cancel")]
            assert codes == [MISSING] * 3
        async with connect(settings, "legacy", extensions=[TaskExtension()]) as older:  # where declaring means nothing
            assert (await older.call("generate_video", **VIDEO, wait_s=0)).job["status"] == "queued"
            codes = [(await refusal(ask(older.client, what, job_id)))[0] for what in ("get", "update", "cancel")]
            assert codes == [NO_METHOD] * 3


@pytest.mark.parametrize("what", ["get", "update", "cancel"])
async def test_an_unknown_task_is_refused(settings: Settings, connect: Connect, what: str) -> None:
    async with connect(settings, extensions=[TaskExtension()]) as runner:
        for task_id in ("nosuchtask", "", "../jobs", "ü", "x" * 5000):
            code, words = await refusal(ask(runner.client, what, task_id))
            assert code == UNKNOWN
            assert "list_jobs" in words


async def test_methods_of_the_earlier_design_are_not_there(settings: Settings, connect: Connect) -> None:
    async with connect(settings, extensions=[TaskExtension()]) as runner:
        for what in ("list", "result"):
            assert (await refusal(ask(runner.client, what, "x")))[0] == NO_METHOD


async def test_over_http_a_task_is_found_by_its_header(settings: Settings, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with site(settings) as server, server.client("auto", extensions=[TaskExtension()]) as client:
            assert "io.modelcontextprotocol/tasks" in (client.server_capabilities.extensions or {})
            task = await ask_for(client, "generate_video", **VIDEO)
            assert (await ask(client, "get", task.task_id))["status"] == "working"
            for named in ({"Mcp-Name": "another"}, {}):
                answer = await server.web.post("/mcp", json=_get(task.task_id), headers={**HEADERS, **named})
                assert (answer.status_code, answer.json()["error"]["code"]) == (400, MISMATCH)
            pace.allow(100)
            done = await until(client, task.task_id, "completed")
    assert done["result"]["structuredContent"]["artifacts"][0]["url"].startswith(server.url)


async def test_a_task_tells_a_client_elsewhere_no_place_on_this_machine(settings: Settings, pace: Pace) -> None:
    pace.allow(100)
    elsewhere = {"X-Forwarded-For": "203.0.113.7"}
    with anyio.fail_after(PATIENCE_S):
        async with site(settings, **elsewhere) as server, server.client(extensions=[TaskExtension()]) as client:
            task = await ask_for(client, "generate_video", **VIDEO)
            done = await until(client, task.task_id, "completed")
    assert str(settings.home) not in str(done)
    assert done["result"]["structuredContent"]["artifacts"][0]["path"] is None


HEADERS = {
    "Accept": "application/json, text/event-stream",
    "MCP-Protocol-Version": ERAS[1],
    "Mcp-Method": "tasks/get",
}


def _get(task_id: str) -> dict[str, Any]:
    meta = {
        "io.modelcontextprotocol/protocolVersion": ERAS[1],
        "io.modelcontextprotocol/clientCapabilities": {"extensions": {"io.modelcontextprotocol/tasks": {}}},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": "tasks/get", "params": {"taskId": task_id, "_meta": meta}}
