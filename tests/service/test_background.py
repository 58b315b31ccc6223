"""A task beside a block: it ends with the block, and neither hides the other's errors."""

import anyio
import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.errors import HomeUnusable
from wan_mcp.service.background import Health, background, retried

pytestmark = pytest.mark.anyio


async def test_the_task_runs_until_the_block_ends() -> None:
    seen = []
    began = anyio.Event()

    async def task() -> None:
        try:
            began.set()
            await anyio.sleep_forever()
        finally:
            seen.append("task ended")

    with anyio.fail_after(PATIENCE_S):
        async with background(task):
            await began.wait()
            seen.append("block ended")
    assert seen == ["block ended", "task ended"]


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
async def test_an_error_of_the_block_comes_out_as_it_is(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        async with background(anyio.sleep_forever):
            raise error
    assert caught.value is error
    assert error.__context__ is None


async def test_a_task_that_fails_ends_the_block() -> None:
    async def task() -> None:
        raise OSError("no disk")

    with anyio.fail_after(PATIENCE_S), pytest.raises(ExceptionGroup) as caught:
        async with background(task):
            await anyio.sleep_forever()
    [error] = caught.value.exceptions
    assert isinstance(error, OSError)


async def test_a_block_that_is_cancelled_is_left_at_once() -> None:
    with anyio.fail_after(PATIENCE_S), anyio.CancelScope() as scope:
        async with background(anyio.sleep_forever):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught


async def test_a_task_that_fails_is_tried_again_and_its_health_says_why() -> None:
    health = Health()
    tries: list[str | None] = []
    well = anyio.Event()

    async def task() -> None:
        tries.append(health.trouble)
        if len(tries) == 1:
            raise MemoryError("no room")
        if len(tries) == 2:
            return  # it must not end either
        health.works()
        well.set()
        await anyio.sleep_forever()

    with anyio.fail_after(PATIENCE_S):
        async with background(retried(task, "nothing is watched", health)):
            await well.wait()
    assert tries == [
        None,
        "nothing is watched: MemoryError: no room",
        "nothing is watched: RuntimeError: the task has ended",
    ]
    assert health.trouble is None


def test_the_pauses_between_tries_grow_up_to_a_limit_and_a_success_resets_them() -> None:
    health = Health()
    pauses = [health.fails("x", HomeUnusable("locked")) for _ in range(6)]
    assert health.trouble == "x: locked"
    health.works()
    assert (pauses, health.fails("x", OSError())) == ([1, 2, 4, 8, 10, 10], 1)


def test_a_trouble_that_lasts_is_logged_with_one_traceback(caplog: pytest.LogCaptureFixture) -> None:
    health = Health()
    for error in (OSError("a"), OSError("a"), OSError("a"), OSError("b")):
        health.fails("x", error)
    assert [record.exc_info is not None for record in caplog.records] == [True, False, False, True]
