"""Devices of other machines that serve this home's queue through a cluster: their names, and how others know of them.

One process of this machine, the dispatcher, claims jobs for all of them and writes their rows. It holds the locks of
their devices and a separate lock. A dispatcher that was killed loses the locks although its engines still work.
So their rows carry a lease: an engine that hears nothing ends before the lease does, and only then are its jobs free.
"""

import re
from pathlib import Path

from filelock import FileLock, Timeout

from wan_mcp.files import require_writable
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.workers import WorkerRegistry, WorkerRow
from wan_mcp.permissions import file_mode, make_folder

__all__ = ["cluster_device", "cluster_serves", "dispatcher_lock", "is_cluster_device", "is_leased", "leased_devices"]

AT = "@"
NODE_SHOWN = 40  # characters


def cluster_device(kind: str, number: int, host: str, node_id: str) -> str:
    """Return the name of a device of another machine, such as `cuda:0@gpu-box-1a2b3c`.

    The end of the name is from the id of the cluster's node, because hosts can have the same name.
    """
    name = re.sub(r"[^a-z0-9.-]", "-", host.lower()).strip(".-")[:NODE_SHOWN] or "node"
    return f"{kind}:{number}{AT}{name}-{node_id[:6].lower()}"


def is_cluster_device(device: str) -> bool:
    """Check whether a device belongs to the cluster, by its name."""
    return AT in device


def dispatcher_lock(home: Path) -> FileLock:
    """Return the lock that the dispatcher of a home holds while it runs.

    Raises:
        HomeUnusable: its folder may not be written.
    """
    folder = home / "cluster"
    make_folder(folder)
    file = folder / "dispatcher.lock"
    require_writable(file)
    return FileLock(file, mode=file_mode(folder), thread_local=False)


def is_leased(row: WorkerRow | None, processes: Processes) -> bool:
    """Check whether the engine of a row of the cluster may still work, although its dispatcher may have died."""
    if row is None or row.silent_until is None or row.identity is None:
        return False
    boot = row.identity.split("/")[0]
    same_boot = boot == (processes.identity() or "-").split("/")[0]  # the clock begins again with a boot
    return same_boot and processes.now() <= row.silent_until


def leased_devices(rows: WorkerRegistry, processes: Processes) -> list[str]:
    """Return the devices of the cluster whose engines may still work."""
    return [row.device for row in rows.registered() if is_cluster_device(row.device) and is_leased(row, processes)]


def cluster_serves(home: Path, rows: WorkerRegistry, processes: Processes) -> bool:
    """Check whether the queue is served by a cluster: its dispatcher lives, or was there a moment ago."""
    if not (home / "cluster" / "dispatcher.lock").exists():
        return False
    try:
        dispatcher_lock(home).acquire(blocking=False).lock.release()
    except Timeout:
        return True
    return bool(leased_devices(rows, processes))
