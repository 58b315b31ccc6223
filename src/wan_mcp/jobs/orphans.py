"""The jobs of an engine that died: how it died, which engines are left, and what becomes of each job.

A front does this when it finds a device's lock free, and an engine when it has taken it.
"""

import logging
from collections.abc import Callable
from pathlib import Path

from wan_mcp.jobs.device_lock import locked_devices
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fatal_signals import FatalSignals
from wan_mcp.jobs.fronts import Front
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.starts import by_others
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import Ended, WorkerRegistry

__all__ = ["death_in", "engines_on", "living_devices", "settle_orphans"]

log = logging.getLogger(__name__)


def settle_orphans(
    store: JobStore, device: str, death_of: Callable[[str | None], Death], devices: Callable[[], list[str]]
) -> None:
    """Requeue or fail the jobs that a dead engine of `device` left running. Call it while holding its lock."""
    if not store.has_running(device):
        return
    for job in store.requeue_orphans(device, death_of, devices()):
        log.warning("an engine died while running job %s, which is now %s", job.id, job.state)


def death_in(
    rows: WorkerRegistry,
    identity: str | None,
    code: int | None,
    processes: Processes,
    signals: FatalSignals | None = None,
) -> Death:
    """Return how the engine of that identity died; `code` is its exit code, where it is known.

    `signals` has the trace of a fatal signal, if there was one.
    """
    if signals is not None and signals.take():
        return Death.CRASHED
    if identity is None:  # an engine of 0.1.0, which says nothing
        return Death.CRASHED
    row = rows.of(identity)
    if row is not None and row.ended == Ended.HUNG:
        return Death.HUNG
    if row is not None and (row.ended == Ended.CRASHED or processes.oom_kills() > row.oom_kills):
        return Death.CRASHED
    return Death.KILLED if code is None or by_others(code) else Death.CRASHED


def engines_on(home: Path, rows: WorkerRegistry, processes: Processes) -> list[str]:
    """Return the devices whose locks are held by engines of this home."""
    found = []
    for device in locked_devices(home):
        row = rows.get(device)
        if row is not None and (row.lives(processes) or not processes.is_here(row.identity or "")):
            found.append(device)
    return found


def living_devices(home: Path, rows: WorkerRegistry, processes: Processes, fronts: list[Front]) -> list[str]:
    """Return the devices that have an engine, or a front that may start one."""
    startable = (device for front in fronts for device in front.startable)
    return [*startable, *engines_on(home, rows, processes)]
