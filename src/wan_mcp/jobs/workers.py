"""The registry of engines in the job table: the process of each, and the deadline of its next heartbeat.

It also records the machine that an engine has found, which outlives the engine.
"""

import os
import time
from dataclasses import dataclass
from typing import get_args

import psutil
from pydantic import ValidationError

from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.schema.enums import ComputePrecision

__all__ = ["WorkerRegistry", "WorkerRow"]

ROWS_KEPT = 50  # of engines, dead ones included


@dataclass(frozen=True)
class WorkerRow:
    """The row of one engine."""

    device: str
    pid: int
    pid_created: float
    ready: bool
    deadline_at: float
    loaded: LoadedModels

    def process(self) -> psutil.Process | None:
        """Return the process that wrote this row; None if it has ended, even if its pid is in use again."""
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.pid_created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return None
        return process if alive else None


class WorkerRegistry:
    """The engines' rows: written by engines, read by fronts. A dead engine's row stays for a while."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, device: str, deadline_at: float) -> None:
        """Register this process as the engine of `device`; its next heartbeat is due at `deadline_at`."""
        me = psutil.Process()
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT INTO engines (device, pid, pid_created, deadline_at) VALUES (?, ?, ?, ?)",
                (device, me.pid, me.create_time(), deadline_at),
            )
            connection.execute("DELETE FROM engines WHERE seq <= last_insert_rowid() - ?", (ROWS_KEPT,))

    def heartbeat(self, device: str, deadline_at: float, loaded: LoadedModels | None = None) -> None:
        """Write a heartbeat of this process, and the models it has `loaded`; None for no change.

        The next heartbeat is due at `deadline_at` (Unix time).
        """
        with self._database.write(durable=False) as connection:
            connection.execute(
                "UPDATE engines SET ready = 1, deadline_at = ?, loaded = coalesce(?, loaded)"
                " WHERE device = ? AND pid = ?",
                (deadline_at, loaded.model_dump_json() if loaded else None, device, os.getpid()),
            )

    def unregister(self, device: str) -> None:
        """Remove this process as the engine of `device`."""
        with self._database.write(durable=False) as connection:
            connection.execute("DELETE FROM engines WHERE device = ? AND pid = ?", (device, os.getpid()))

    def record_machine(self, device: str, machine: Machine) -> None:
        """Record the machine that an engine of `device` has found, beyond the engine's life."""
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO machines VALUES (?, ?, ?, ?, ?, ?)",
                (device, machine.name, machine.precision, machine.memory, machine.has_fp8, time.time()),
            )

    def machine(self, device: str) -> Machine | None:
        """Return the machine that an engine of `device` has recorded since it booted; None if none has."""
        rows = self._database.read("SELECT * FROM machines WHERE device = ?", device)
        if not rows or rows[0]["told_at"] < psutil.boot_time():  # hardware and drivers may be others now
            return None
        row = rows[0]
        if row["precision"] not in get_args(ComputePrecision):  # a word of a newer version beside us
            return None
        return Machine(row["name"], row["precision"], row["memory"], bool(row["has_fp8"]))

    def get(self, device: str) -> WorkerRow | None:
        """Return the engine that registered last for `device`, or None."""
        rows = self._database.read("SELECT * FROM engines WHERE device = ? ORDER BY seq DESC LIMIT 1", device)
        if not rows:
            return None
        row = rows[0]
        try:
            loaded = LoadedModels.model_validate_json(row["loaded"], extra="ignore")
        except ValidationError:  # words of a newer version beside us: only estimates want them
            loaded = LoadedModels()
        return WorkerRow(row["device"], row["pid"], row["pid_created"], bool(row["ready"]), row["deadline_at"], loaded)

    def was_ready(self, pid: int) -> bool:
        """Check whether the engine of that pid had become ready, even if later engines have registered."""
        rows = self._database.read("SELECT ready FROM engines WHERE pid = ? ORDER BY seq DESC LIMIT 1", pid)
        return bool(rows and rows[0]["ready"])
