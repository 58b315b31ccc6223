"""What the deaths of engines say about a job: the rules by which one is run again, or failed.

Evidence belongs to a job and a device: how each engine died that ran the job. docs/decisions has the rules as a table.
Nothing here reads or writes anything.
"""

import json
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from wan_mcp.parsing import parse_json

__all__ = ["Death", "Evidence"]

CRASHES_ALLOWED = 1  # on all devices together
HANGS_ALLOWED = 2
KILLS_ALLOWED = 5
KILLS_IN_PLACE = 1  # after more, other jobs go first
TOO_LARGE = "too_large"


class Death(StrEnum):
    """How an engine died that was running a job."""

    CRASHED = "crashed"
    """By itself: an exception, an exit code, a fatal signal, or for want of memory."""
    HUNG = "hung"
    """Ended by a front, after a whole deadline without a sign of life."""
    KILLED = "killed"
    """Without a trace: kill -9 by anybody, a power cut. Almost never the job's fault."""


@dataclass(frozen=True)
class Evidence:
    """The deaths of the engines that ran a job, oldest first, each with its device; and where it has no room."""

    deaths: tuple[tuple[Death, str], ...] = ()
    too_large_for: tuple[str, ...] = ()
    """The devices with too little memory for it."""

    @classmethod
    def parse(cls, text: str | None) -> "Evidence":
        """Parse the column; words that are unknown or wrong are no evidence."""
        try:
            entries = parse_json(text or "[]")
            deaths = tuple((Death(how), str(device)) for how, device in entries if how in list(Death))
            return cls(deaths, tuple(str(device) for how, device in entries if how == TOO_LARGE))
        except (ValueError, TypeError):
            return cls()

    def __str__(self) -> str:
        """Return the text for the column."""
        return json.dumps([*self.deaths, *((TOO_LARGE, device) for device in self.too_large_for)])

    def after(self, death: Death, device: str) -> "Evidence":
        """Return the evidence after another death."""
        return Evidence((*self.deaths, (death, device)), self.too_large_for)

    def without_room_on(self, device: str) -> "Evidence":
        """Return the evidence after an engine of the device had too little memory."""
        return Evidence(self.deaths, (*self.too_large_for, device))

    def count(self, death: Death, device: str | None = None) -> int:
        """Return how often engines (of one device, or any) died in this way."""
        return sum(how is death and device in (None, where) for how, where in self.deaths)

    def bars(self, device: str) -> bool:
        """Check whether engines of a device are not to take the job any more."""
        return self.count(Death.CRASHED, device) > CRASHES_ALLOWED or device in self.too_large_for

    @property
    def waits(self) -> bool:
        """True if other jobs go first: whatever kills engines, it must not hold them up."""
        return self.count(Death.KILLED) > KILLS_IN_PLACE

    def fails(self, devices: Collection[str]) -> str | None:
        """Return why the job cannot be run by an engine of any of these devices; None while one may.

        `devices` are those with a living engine, or with a front that can start one.
        """
        if self.count(Death.KILLED) > KILLS_ALLOWED:
            return f"The engine was killed {self.count(Death.KILLED)} times while it ran this job"
        if self.count(Death.HUNG) > HANGS_ALLOWED:
            return f"The engine hung {self.count(Death.HUNG)} times while it ran this job"
        if self.too_large_for and all(self.bars(device) for device in devices):
            return "No engine that is left has enough memory for this job"
        crashed = {device for how, device in self.deaths if how is Death.CRASHED}
        if self.count(Death.CRASHED) <= CRASHES_ALLOWED:
            return None
        if len(crashed) > 1 or not any(not self.bars(device) for device in devices):
            times = {2: "twice"}.get(self.count(Death.CRASHED), f"{self.count(Death.CRASHED)} times")
            return f"The engine died {times} while it ran this job (out of memory, or a crash)"
        return None
