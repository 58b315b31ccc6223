"""A task that runs while a block of code runs."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio

__all__ = ["background"]


@asynccontextmanager
async def background(task: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run `task` until the block ends.

    An error of the block comes out as it is; a task group alone would wrap it in an exception group.

    Raises:
        ExceptionGroup: The task failed; the block is cancelled.
    """
    failure: BaseException | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(task)
        try:
            yield
        except anyio.get_cancelled_exc_class():  # the task group has to see it
            raise
        except BaseException as error:
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
