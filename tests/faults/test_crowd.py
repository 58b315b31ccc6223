"""Many clients at once."""

from collections.abc import Callable

import anyio
import pytest

from tests.fixtures.faults import Connect, facts, words
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

CLIENTS = 16


async def test_16_clients_submit_at_once_and_each_gets_its_own_video(
    connect: Connect, engine: Callable[..., Settings]
) -> None:
    settings = engine("works")
    seeds: dict[int, str] = {}
    ready = 0
    start = anyio.Event()

    async def submit(seed: int) -> None:
        nonlocal ready
        async with connect(settings) as client:  # each a front of its own
            ready += 1
            if ready == CLIENTS:
                start.set()
            await start.wait()
            result = await client.call_tool(
                "generate_video", {"prompt": f"client {seed}", "seed": seed, "wait_s": PATIENCE_S}
            )
            assert facts(result)["status"] == "succeeded", words(result)
            assert facts(result)["request"]["prompt"] == f"client {seed}"
            seeds[facts(result)["artifacts"][0]["seed"]] = facts(result)["job_id"]

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for seed in range(CLIENTS):
                tasks.start_soon(submit, seed)
    assert sorted(seeds) == list(range(CLIENTS))
    assert len(set(seeds.values())) == CLIENTS


async def test_16_submits_with_one_request_id_start_one_job(connect: Connect, engine: Callable[..., Settings]) -> None:
    settings = engine("works")
    ids: set[str] = set()

    async def submit() -> None:
        async with connect(settings) as client:
            asked = {"prompt": "a red circle", "request_id": "the one", "wait_s": PATIENCE_S}
            ids.add(facts(await client.call_tool("generate_video", asked))["job_id"])

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for _ in range(CLIENTS):
                tasks.start_soon(submit)
    assert len(ids) == 1


async def test_what_does_not_fit_the_queue_is_refused_with_the_time_to_come_back(
    connect: Connect, engine: Callable[..., Settings]
) -> None:
    settings = engine("works", queue_limit=4)
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0", encoding="utf-8")
    refusals: list[str] = []

    async with connect(settings) as client:

        async def submit(number: int) -> None:
            result = await client.call_tool("generate_video", {"prompt": f"number {number}", "wait_s": 0})
            if result.is_error:
                refusals.append(words(result))

        async with anyio.create_task_group() as tasks:
            for number in range(CLIENTS):
                tasks.start_soon(submit, number)
        jobs = facts(await client.call_tool("list_jobs", {"limit": 100}))["jobs"]
        assert len(refusals) >= CLIENTS - 5  # four wait, and one may run
        assert len(refusals) + len(jobs) == CLIENTS
        assert all("the queue is full" in refusal and "try again" in refusal for refusal in refusals)
