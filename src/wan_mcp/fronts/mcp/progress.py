"""Progress notifications: their values and their rate.

The protocol requires each value to exceed the one before. The SDK does not ensure that, so this
module does: the value of a job that waits, or is queued again because its engine died, grows by
invisible amounts, only to carry the new message.
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
KEEP_ALIVE_S = 10.0
"""Silence after which the same message is sent again: some hosts give up when nothing comes (`host_patience.py`)."""
CREEP = 1e-6  # of what is left; an hour of creeping once a second is less than half a percent


class Send(Protocol):
    """A function that sends a notification, such as the SDK's `Context.report_progress`."""

    def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> Awaitable[None]:
        """Send a notification."""


class ProgressReports:
    """The notifications of one call. Nothing may be sent after `finish`."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock = clock
        self._value = -1.0
        self._message = ""
        self._sent_at = float("-inf")

    async def begin(self, message: str) -> None:
        """Report zero at once; over HTTP this opens the stream."""
        await self._report(0.0, message)

    async def show(self, view: JobView) -> None:
        """Report the job's progress, unless the last report is too recent, or the same and not long ago."""
        silence = self._clock() - self._sent_at
        if silence < INTERVAL_S:
            return
        value, message = round(TOTAL * fraction_of(view.job), 2), sentence(view)
        if value <= self._value:
            if message == self._message and silence < KEEP_ALIVE_S:
                return
            value = self._value + (TOTAL - self._value) * CREEP
        await self._report(value, message)

    async def finish(self, view: JobView) -> None:
        """Report 100 percent if the job succeeded."""
        if view.job.state is JobState.SUCCEEDED and self._value < TOTAL:
            await self._report(TOTAL, sentence(view))

    async def _report(self, value: float, message: str) -> None:
        self._value, self._message, self._sent_at = value, message, self._clock()
        await self._send(value, TOTAL, message)
