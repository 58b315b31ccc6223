"""Jobs that asked for another device: they are left to it for as long as somebody can run them there.

A caller names a device by a flag or a variable of their front. An engine of another device takes such a job only when
neither an engine nor a front of the device that was asked for lives any more: no job waits for ever.
"""

import time
from pathlib import Path

from wan_mcp.jobs.devices import AUTO, named
from wan_mcp.jobs.evidence import Evidence
from wan_mcp.jobs.fronts import Presence
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.jobs import Job

__all__ = ["OtherDevices", "asked_device"]

LOOK_S = 0.5


def asked_device(job: Job) -> str | None:
    """Return the name of the device that a job's caller named; None if they named none."""
    asked = job.plan.engine.device if job.plan.engine is not None else None
    return None if asked is None or asked == AUTO else named(asked)


class OtherDevices:
    """Which jobs an engine, or the front that starts it, leaves to another device."""

    def __init__(self, home: Path, rows: WorkerRegistry, processes: Processes) -> None:
        self._fronts = Presence(home, "")
        self._rows = rows
        self._processes = processes
        self._looked: dict[str, tuple[float, bool]] = {}

    def take(self, job: Job, evidence: Evidence, device: str) -> bool:
        """Check whether a queued job is for a device other than `device`, and somebody can run it there."""
        asked = asked_device(job)
        return asked not in (None, device) and not evidence.bars(asked or "") and self._is_served(asked or "")

    def _is_served(self, device: str) -> bool:
        now = time.monotonic()
        at, served = self._looked.get(device, (-LOOK_S, False))
        if now - at < LOOK_S:
            return served
        row = self._rows.get(device)
        served = row is not None and row.lives(self._processes)
        served = served or any(front.device == device for front in self._fronts.others())
        self._looked[device] = now, served
        return served
