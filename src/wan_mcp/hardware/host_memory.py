"""Main memory available to this process: the machine's, or that of its container; and how freed memory is returned."""

import ctypes
from contextlib import suppress
from pathlib import Path

import psutil

__all__ = ["free_main_memory", "main_memory", "return_large_blocks"]

CGROUP = Path("/sys/fs/cgroup")
M_MMAP_THRESHOLD = -3  # of mallopt(3); setting it also keeps glibc from moving it
LARGE_BYTES = 1_000_000


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


def return_large_blocks() -> None:
    """Let freed blocks of a megabyte and more return to the system at once, where the C library is glibc.

    By default glibc raises this limit to the largest block that was ever freed, and each thread keeps such blocks: a
    front whose threads had decoded one image each kept the memory of all.
    """
    try:
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
    except (OSError, AttributeError):  # another C library
        return
