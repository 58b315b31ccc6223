"""A task beside a block: it ends with the block, and neither hides the other's errors."""

import anyio
import pytest

from wan_mcp.service.background import background

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

    with anyio.fail_after(5):
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

    with anyio.fail_after(5), pytest.raises(ExceptionGroup) as caught:
        async with background(task):
            await anyio.sleep_forever()
    [error] = caught.value.exceptions
    assert isinstance(error, OSError)


async def test_a_block_that_is_cancelled_is_left_at_once() -> None:
    with anyio.fail_after(5), anyio.CancelScope() as scope:
        async with background(anyio.sleep_forever):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
