"""Progress of a download: counted by its threads, read by its callers."""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from wan_mcp.text import in_bytes, time_left

__all__ = ["Download", "Tally"]

WINDOW_S = 10.0  # the rate is that of the last so many seconds


@dataclass(frozen=True)
class Download:
    """The state of a running download."""

    done: int
    """Bytes on disk, those from earlier attempts included."""
    total: int
    """Bytes of all requested files."""
    rate: float | None
    """Recent rate in bytes per second; None while nothing arrives."""
    note: str = ""
    """The current activity if not downloading, e.g. waiting for the hub."""

    @property
    def eta_s(self) -> float | None:
        """Seconds left at this rate; None without a rate."""
        return (self.total - self.done) / self.rate if self.rate else None

    def __str__(self) -> str:
        words = f"{in_bytes(self.done)} of {in_bytes(self.total)}"
        if self.rate is not None:
            words += f" at {in_bytes(self.rate)}/s"
        words += time_left(self.eta_s)
        return f"{words} ({self.note})" if self.note else words


class Tally:
    """Counts bytes; all its methods may be called from any thread."""

    def __init__(self, total: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Expect `total` bytes."""
        self._total = total
        self._clock = clock
        self._lock = threading.Lock()
        self._here = 0
        self._came = 0
        self._samples = deque([(clock(), 0)])
        self._notes: dict[str, str] = {}

    @property
    def came_so_far(self) -> int:
        """Bytes received from the hub."""
        return self._came

    @property
    def left(self) -> int:
        """Bytes still to come."""
        with self._lock:
            return max(0, self._total - self._here - self._came)

    def here(self, count: int) -> None:
        """Add bytes that were already on disk; a negative count removes bytes that proved unusable."""
        with self._lock:
            self._here += count

    def came(self, count: int) -> None:
        """Add bytes received from the hub."""
        with self._lock:
            self._came += count

    def note(self, file: str, words: str = "") -> None:
        """Set what happens to a file instead of downloading; without words, clear it."""
        with self._lock:
            self._notes.pop(file, None)
            if words:
                self._notes[file] = words

    def look(self) -> Download:
        """Return the current state."""
        now = self._clock()
        with self._lock:
            self._samples.append((now, self._came))
            while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_S:
                self._samples.popleft()
            began, came = self._samples[0]
            rate = (self._came - came) / (now - began) if now > began and self._came > came else None
            note = next(reversed(self._notes.values()), "")
            return Download(self._here + self._came, self._total, rate, note)
