"""Progress notifications: what may be sent, and when.

The protocol wants every value larger than the one before and the SDK does not see to it, so this
does: a job that waits, or goes back to the queue because its engine died, creeps on by amounts
that nobody sees, only to carry its new message.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from wan_mcp.schema.enums import JobState
from wan_mcp.service.describe import fraction_of, sentence
from wan_mcp.service.service import JobView

__all__ = ["ProgressReports", "Send"]

TOTAL = 100.0
INTERVAL_S = 0.3
CREEP = 1e-6  # of what is left; an hour of creeping once a second is less than half a percent


class Send(Protocol):
    """How a notification is sent; the SDK's `Context.report_progress`."""

    def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Send it."""


class ProgressReports:
    """The notifications of one call. After `finish` nothing may be sent any more."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._value = -1.0
        self._message = ""
        self._sent_at = float("-inf")

    async def begin(self, message: str) -> None:
        """Zero, at once: over HTTP it is what opens the stream."""
        await self._report(0.0, message)

    async def show(self, view: JobView) -> None:
        """Where the job is now, unless it was said already or the last word is too fresh."""
        if self._clock() - self._sent_at < INTERVAL_S:
            return
        value, message = round(TOTAL * fraction_of(view.job), 2), sentence(view)
        if value <= self._value:
            if message == self._message:
                return
            value = self._value + (TOTAL - self._value) * CREEP
        await self._report(value, message)

    async def finish(self, view: JobView) -> None:
        """All of it, if the job succeeded."""
        if view.job.state is JobState.SUCCEEDED and self._value < TOTAL:
            await self._report(TOTAL, sentence(view))

    async def _report(self, value: float, message: str) -> None:
        self._value, self._message, self._sent_at = value, message, self._clock()
        await self._send(value, TOTAL, message)
