"""The most memory that a process has, and that a GPU has in use, while something runs: sampled from outside.

Both sides of a benchmark are measured in the same way, whatever their allocators count.
"""

import threading
from collections.abc import Callable

import psutil

from wan_mcp.hardware.machine import gpu_memory

__all__ = ["PeakMemory"]

EVERY_S = 0.25


class PeakMemory:
    """A thread that samples until the block ends."""

    def __init__(self, pid: Callable[[], int | None], device: Callable[[], str | None]) -> None:
        """Watch the process and the device that the functions return; None while there is none yet."""
        self._pid, self._device = pid, device
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)
        self.process_bytes: int | None = None
        """The most main memory that the process had resident; files that it has mapped count."""
        self.gpu_bytes: int | None = None
        """The most that was in use on the GPU, by all processes."""

    def __enter__(self) -> "PeakMemory":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(EVERY_S):
            if (pid := self._pid()) is not None:
                try:
                    self.process_bytes = max(self.process_bytes or 0, psutil.Process(pid).memory_info().rss)
                except psutil.Error:  # it has ended
                    continue
            kind, _, number = (self._device() or "").partition(":")
            if kind == "cuda" and (found := gpu_memory(number or "0")) is not None:
                self.gpu_bytes = max(self.gpu_bytes or 0, found[0])
