"""Which ended jobs are deleted by themselves, when the owner has set an age or an amount; by default none are.

Jobs that are kept, at work, or the input of one that is not done are never among them: the deletion of each job checks
that again in its own transaction, so any number of fronts may do this at once, and be killed at any time.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from anyio.to_thread import run_sync

from wan_mcp.errors import BadRequest, UnknownJob, UnreadableRow
from wan_mcp.jobs.history import JobHistory
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.jobs import Job
from wan_mcp.service.deletion import Deletion
from wan_mcp.settings import Settings

__all__ = ["Expired", "Retention", "SteadyClock", "expires_at", "retain"]

log = logging.getLogger(__name__)

DAY_S = 86_400.0
END_OF_TIME = 253_402_300_800.0  # the year 10000, which no calendar of Python's has
GB = 1_000_000_000
FIRST_S = 5.0  # a command that lists or keeps jobs has ended by then
TURN_S = 30.0
STEADY_S = 600.0
"""How long the clock must have gone on without a step before it is believed, or a tenth of the age if that is less."""
STEP_S = 120.0  # a clock that differs by so much from the one that counts seconds was set
FRESH_S = 60.0  # a client that waits for a result reads it before the amount is looked at
BATCH = 20


@dataclass(frozen=True)
class Expired:
    """A job that is to be deleted."""

    job: Job
    bytes: int
    """Of its files."""


def expires_at(job: Job, settings: Settings) -> float | None:
    """Return when a job is deleted by its age, in Unix time; None if never, or if it is not known yet."""
    if not settings.keep_days or job.kept or not job.state.final or job.finished_at is None:
        return None
    at = job.finished_at + settings.keep_days * DAY_S
    return at if at < END_OF_TIME else None


class SteadyClock:
    """Watches whether the clock of the day goes on steadily: a machine may start with a wrong one."""

    def __init__(self, of_day: Callable[[], float] = time.time, counted: Callable[[], float] | None = None) -> None:
        self._of_day, self._counted = of_day, counted or _seconds_since_start
        self._since = self._counted()
        self._difference = self._of_day() - self._since

    def steady_s(self) -> float:
        """Return for how many seconds the clock has not been set."""
        now = self._counted()
        difference = self._of_day() - now
        if abs(difference - self._difference) > STEP_S:
            self._since = now
        self._difference = difference  # a clock that is corrected a little at a time is steady
        return now - self._since


class Retention:
    """What finds the jobs that are to be deleted, and deletes them."""

    def __init__(self, history: JobHistory, deletion: Deletion, media: MediaStore) -> None:
        self._history, self._deletion, self._media = history, deletion, media

    def expired(self, days: float, gigabytes: float, *, now: float, fresh_s: float = 0.0) -> list[Expired]:
        """Return the jobs that are older than so many days, and the oldest of those beyond so many GB; 0 for no limit.

        `now` is in Unix time. Of what is beyond the amount, the job that has ended last stays, and those that have
        ended within `fresh_s` seconds.
        """
        ended = self._history.ended()
        sizes = self._media.result_bytes() if ended else {}
        old = [job for job in ended if days and job.finished_at is not None and now - job.finished_at > days * DAY_S]
        gone = {job.id for job in old}
        if gigabytes:
            left = sum(size for job_id, size in sizes.items() if job_id not in gone) - gigabytes * GB
            for job in [job for job in ended if job.id not in gone][:-1]:
                if left <= 0:
                    break
                if sizes.get(job.id) and abs(now - (job.finished_at or 0.0)) >= fresh_s:
                    old.append(job)
                    left -= sizes[job.id]
        return [Expired(job, sizes.get(job.id, 0)) for job in old]

    def delete(self, expired: list[Expired]) -> list[Job]:
        """Delete these jobs; return those that were deleted. Others were kept, needed or deleted meanwhile."""
        deleted = []
        for each in expired:
            try:
                deleted.append(self._history.delete(each.job.id))
            except (UnknownJob, BadRequest, UnreadableRow) as reason:
                log.debug("job %s stays: %s", each.job.id, reason)
        if deleted:
            self._deletion.finish()
        return deleted


async def retain(
    retention: Callable[[], Awaitable[Retention | None]], settings: Settings, works: Callable[[], None]
) -> None:
    """Delete what is too old or too much, as long as this front runs.

    Args:
        retention: Returns what deletes; None while there is no job table.
        settings: How long and how much is kept.
        works: Called after each turn without an error.
    """
    clock = SteadyClock()
    believed = min(STEADY_S, settings.keep_days * DAY_S / 10)
    turn_s = min(TURN_S, max(1.0, believed)) if settings.keep_days else TURN_S
    await anyio.sleep(FIRST_S)
    while True:
        if (retaining := await retention()) is not None:
            days = settings.keep_days if clock.steady_s() >= believed else 0.0
            await _turn(retaining, days, settings.keep_gb)
        works()
        await anyio.sleep(turn_s)


async def _turn(retention: Retention, days: float, gigabytes: float) -> None:
    def find() -> list[Expired]:
        return retention.expired(days, gigabytes, now=time.time(), fresh_s=FRESH_S)

    found = await run_sync(find) if days or gigabytes else []
    for start in range(0, len(found), BATCH):  # in parts, so that a front that ends waits for one at most
        for job in await run_sync(retention.delete, found[start : start + BATCH]):
            log.info("job %s was deleted: it was older, or results took more room, than the settings allow", job.id)


def _seconds_since_start() -> float:
    """Return seconds that count on while the machine sleeps, where the system has such a clock."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)
