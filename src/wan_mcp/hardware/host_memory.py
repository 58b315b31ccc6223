"""Main memory available to this process: the machine's, or that of its container."""

from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["free_main_memory", "main_memory"]

CGROUP = Path("/sys/fs/cgroup")


def main_memory() -> int:
    """Return the total bytes of memory for this process."""
    total = int(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):  # no container, or one without a limit ("max")
        return min(total, int((CGROUP / "memory.max").read_text()))
    return total


def free_main_memory() -> int:
    """Return the bytes that this process may allocate without swapping others out."""
    available = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError, KeyError):
        limit = int((CGROUP / "memory.max").read_text())
        lines = (CGROUP / "memory.stat").read_text().splitlines()
        used = {name: int(value) for name, value in map(str.split, lines)}
        # Pages of files make room by themselves.
        available = min(available, limit - used["anon"] - used["shmem"])
    return max(available, 0)
