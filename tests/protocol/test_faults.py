"""Engines that misbehave for real, as the client of a tool sees it."""

from collections.abc import Callable
from itertools import pairwise

import anyio
import pytest

from tests.protocol.conftest import Answer, Connect
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio
LIMIT_S = 40


async def run(engine: Callable[..., Settings], connect: Connect, name: str, **changes: object) -> Answer:
    with anyio.fail_after(LIMIT_S):
        async with connect(engine(name, **changes)) as studio:
            return await studio.call("generate_video", prompt="a red circle", seed=3, steps=4)


def only_increases(answer: Answer) -> bool:
    values = [value for value, _, _ in answer.progress]
    return all(a < b for a, b in pairwise(values))


async def test_a_defect_in_the_engine_fails_the_job_and_names_the_log(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    answer = await run(engine, connect, "raises")
    assert answer.result.is_error
    assert answer.job["error"]["code"] == "internal"
    assert "ZeroDivisionError" in answer.text
    assert str(settings.log_file) in answer.text
    assert "a defect of the engine" not in answer.text
    assert "a defect of the engine" in settings.log_file.read_text(encoding="utf-8")


async def test_a_job_that_cannot_be_done_says_why_and_what_to_do(
    engine: Callable[..., Settings], connect: Connect
) -> None:
    answer = await run(engine, connect, "fails")
    assert answer.result.is_error
    assert answer.job["status"] == "failed"
    assert answer.job["error"] == {
        "code": "out_of_memory",
        "message": "The device has not enough memory for this size; choose a smaller one.",
    }
    assert "failed (out_of_memory): The device has not enough memory" in answer.text


@pytest.mark.parametrize("name", ["exits", "killed"])
async def test_a_job_that_kills_its_engine_twice_fails_with_the_reason(
    engine: Callable[..., Settings], connect: Connect, name: str
) -> None:
    answer = await run(engine, connect, name)
    assert answer.result.is_error
    assert answer.job["error"]["code"] == "engine_died"
    assert only_increases(answer)


@pytest.mark.parametrize("name", ["killed_once", "hangs_once"])
async def test_a_job_whose_engine_dies_once_is_finished_by_the_next(
    engine: Callable[..., Settings], connect: Connect, name: str
) -> None:
    with anyio.fail_after(LIMIT_S):
        async with connect(engine(name, step_deadline_s=0.5)) as studio:
            answer = await studio.call("generate_video", prompt="a red circle", seed=3, steps=4)
            view = await studio.service.view(answer.job["job_id"])
    assert view.job.deaths == 1
    assert answer.job["status"] == "succeeded"
    assert answer.job["artifacts"][0]["seed"] == 3
    assert only_increases(answer)


async def test_an_engine_that_cannot_start_fails_the_job_and_names_the_log(
    engine: Callable[..., Settings], connect: Connect, settings: Settings
) -> None:
    answer = await run(engine, connect, "dies_at_start")
    assert answer.result.is_error
    assert answer.job["error"]["code"] == "engine_failed"
    assert "no module named 'torch'" in answer.text
    assert str(settings.log_file) in answer.text


async def test_the_next_job_runs_after_one_has_failed(engine: Callable[..., Settings], connect: Connect) -> None:
    with anyio.fail_after(LIMIT_S):
        async with connect(engine("fails")) as studio:
            failed = await studio.call("generate_video", prompt="a red circle", steps=4)
            after = await studio.call("generate_video", prompt="a red circle", steps=1)  # ends before the trick
    assert failed.job["status"] == "failed"
    assert after.job["status"] == "succeeded"
