"""Who holds the lock of a device and is not an engine of this home: then no job can run, and somebody must be told."""

from pathlib import Path

from filelock import Timeout

from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.workers import WorkerRegistry

__all__ = ["InTheWay"]

GLANCE_S = 1.0
PATIENCE_S = 5.0
"""Fronts take the lock for a moment to see whether it is free, and an engine takes it a moment before it registers."""


class InTheWay:
    """Looks at the lock of a device while it is held."""

    def __init__(self, home: Path, rows: WorkerRegistry, processes: Processes) -> None:
        self._home = home
        self._rows = rows
        self._processes = processes
        self._stranger: tuple[int | None, float] | None = None
        self.found: str | None = None
        """Who has been in the way for a while, in a sentence; None if nobody has."""

    def look(self, device: str) -> None:
        """Look at the lock, which is held."""
        now = self._processes.now()
        file = Path(engine_lock(self._home, device).lock_file)
        holder = self._processes.holder_of(file)
        if self._is_engine(device, holder):
            self.clear()
        elif self._stranger is None or self._stranger[0] != holder:
            self._stranger, self.found = (holder, now), None
        elif now - self._stranger[1] >= PATIENCE_S:
            self.found = self._sentence(file, holder)

    def now(self, device: str) -> str | None:
        """Return who has held the lock for the last second and is not an engine, in a sentence; None if nobody."""
        lock = engine_lock(self._home, device)
        try:
            lock.acquire(timeout=GLANCE_S).lock.release()
        except Timeout:
            holder = self._processes.holder_of(Path(lock.lock_file))
            return None if self._is_engine(device, holder) else self._sentence(Path(lock.lock_file), holder)
        return None

    def clear(self) -> None:
        """Note that nothing is in the way."""
        self._stranger, self.found = None, None

    def _is_engine(self, device: str, holder: int | None) -> bool:
        row = self._rows.get(device)
        if row is None:
            return False
        if holder is not None and holder == row.pid:
            return True
        if row.identity is None or self._processes.is_here(row.identity):
            return holder is None and row.lives(self._processes)
        # In another container: its process cannot be seen, but it sends signs of life.
        return holder is None and self._processes.now() <= (row.silent_until or 0.0)

    def _sentence(self, file: Path, holder: int | None) -> str:
        if holder is None:
            who = "a process that cannot be seen from here (another user's, or another container's)"
        else:
            who = f"process {holder} ({self._processes.command_of(holder)})"
        return f"the device's lock {file} is held by {who}, which is not an engine of wan-mcp; end it to let jobs run"
