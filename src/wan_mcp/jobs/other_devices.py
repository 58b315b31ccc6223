"""Jobs that asked for other devices: they are left to those for as long as somebody can run them there.

A caller names devices by a flag or a variable of their front. An engine of another device takes such a job only when
neither an engine nor a front of a device that was asked for lives any more: no job waits for ever. Jobs whose callers
named none are left to the cluster while one serves this home.
"""

import time
from pathlib import Path

from wan_mcp.jobs.cluster_devices import cluster_serves, is_cluster_device, leased_devices
from wan_mcp.jobs.devices import named
from wan_mcp.jobs.evidence import Evidence
from wan_mcp.jobs.fronts import Presence
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.jobs import Job

__all__ = ["OtherDevices", "asked_devices"]

LOOK_S = 0.5


def asked_devices(job: Job) -> tuple[str, ...]:
    """Return the names of the devices that a job's caller named; empty if they named none."""
    asked = job.plan.engine.device if job.plan.engine is not None else None
    return () if asked is None else named(asked)


class OtherDevices:
    """Which jobs an engine, or the front that starts it, leaves to another device."""

    def __init__(self, home: Path, rows: WorkerRegistry, processes: Processes) -> None:
        self._fronts = Presence(home, "")
        self._rows = rows
        self._processes = processes
        self._home = home
        self._looked: dict[str, tuple[float, bool]] = {}
        self._cluster: tuple[float, list[str] | None] = -LOOK_S, None

    def take(self, job: Job, evidence: Evidence, device: str) -> bool:
        """Check whether a queued job is for devices other than `device`, and somebody can run it there."""
        asked = asked_devices(job)
        if not asked:
            return not is_cluster_device(device) and self._cluster_takes(evidence)
        if device in asked:
            return False
        return any(not evidence.bars(other) and self._is_served(other) for other in asked)

    def _cluster_takes(self, evidence: Evidence) -> bool:
        """Check whether a job is left to the cluster, which may have no machine at the moment."""
        now = time.monotonic()
        at, devices = self._cluster
        if now - at >= LOOK_S:
            serves = cluster_serves(self._home, self._rows, self._processes)
            devices = leased_devices(self._rows, self._processes) if serves else None
            self._cluster = now, devices
        return devices is not None and (not devices or any(not evidence.bars(each) for each in devices))

    def _is_served(self, device: str) -> bool:
        now = time.monotonic()
        at, served = self._looked.get(device, (-LOOK_S, False))
        if now - at < LOOK_S:
            return served
        row = self._rows.get(device)
        served = row is not None and row.lives(self._processes)
        served = served or any(device in front.devices for front in self._fronts.others())
        self._looked[device] = now, served
        return served
