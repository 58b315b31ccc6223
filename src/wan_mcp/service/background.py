"""Tasks that run while a block of code runs, and what is known about how they are doing."""

import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import anyio

from wan_mcp.errors import UserError

__all__ = ["Health", "background", "retried"]

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 1.0  # after a failure; doubled after each further one
MAX_PAUSE_S = 10.0

Task = Callable[[], Coroutine[Any, Any, None]]


@asynccontextmanager
async def background(task: Task) -> AsyncIterator[None]:
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


class Health:
    """Whether a background task does its work."""

    def __init__(self) -> None:
        self.trouble: str | None = None
        """Why the task fails at present, in words; None while it works."""
        self._pause_s = FIRST_PAUSE_S

    def works(self) -> None:
        """Note that the task has just done what it is for."""
        if self.trouble is not None:
            log.info("it works again: %s", self.trouble)
        self.trouble, self._pause_s = None, FIRST_PAUSE_S

    def fails(self, what: str, error: Exception) -> float:
        """Note and log a failure; return how many seconds to wait before the next try."""
        reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        trouble = f"{what}: {reason[:500]}"
        if trouble != self.trouble:
            log.error("%s", trouble, exc_info=error)
        else:  # once with its traceback is enough, however long it lasts
            log.error("still: %s", trouble)
        self.trouble = trouble
        pause_s, self._pause_s = self._pause_s, min(2 * self._pause_s, MAX_PAUSE_S)
        return pause_s


def retried(task: Task, what: str, health: Health) -> Task:
    """Return a task that starts `task` again when it has failed or ended, after a growing pause.

    Args:
        task: It should never end by itself, and call `health.works()` whenever it has done a turn.
        what: What does not work while the task fails, such as "jobs are not supervised".
        health: Where failures are noted.
    """

    async def retrying() -> None:
        while True:
            try:
                await task()
                raise RuntimeError("the task has ended")
            except Exception as error:
                pause_s = health.fails(what, error)
            await anyio.sleep(pause_s)

    return retrying
