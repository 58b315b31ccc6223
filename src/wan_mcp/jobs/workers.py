"""The registry of engines in the job table: the process of each, and the deadline of its next heartbeat.

It also records the machine that an engine has found, which outlives the engine. Deadlines are on the clock of
`Processes.now`; the column `deadline_at`, in Unix time, is for people and for older versions on the same home.
"""

import os
import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum
from typing import get_args

import psutil
from pydantic import ValidationError

from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.processes import Processes
from wan_mcp.schema.enums import ComputePrecision

__all__ = ["Ended", "WorkerRegistry", "WorkerRow"]

ROWS_KEPT = 50  # of engines, dead ones included; the latest of a device stays until it has ended


class Ended(StrEnum):
    """How an engine ended, as far as it or a front could say."""

    LEFT = "left"
    """In good order."""
    CRASHED = "crashed"
    """By an exception that nothing met."""
    HUNG = "hung"
    """Killed by a front, after it had been silent for longer than its deadline."""


@dataclass(frozen=True)
class WorkerRow:
    """The row of one engine."""

    device: str
    pid: int
    identity: str | None
    """See `Processes.identity`; None in a row of 0.1.0."""
    pid_created: float
    ready: bool
    deadline_at: float
    silent_until: float | None
    """When the next heartbeat is due, on the clock of `Processes.now`; None in a row of 0.1.0."""
    silence_s: float
    """The seconds that it allows itself between two heartbeats."""
    loaded: LoadedModels
    oom_kills: int
    """`Processes.oom_kills` at its last heartbeat."""
    ended: str | None

    def process(self) -> psutil.Process | None:
        """Return the process that wrote this row; None if it has ended, even if its pid is in use again."""
        if self.identity is not None:
            return psutil.Process(self.pid) if Processes().lives(self.identity) else None
        try:
            process = psutil.Process(self.pid)
            alive = abs(process.create_time() - self.pid_created) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.Error, ValueError, OverflowError):
            return None
        return process if alive else None

    def lives(self, processes: Processes) -> bool:
        """Check whether the process that wrote this row lives."""
        return processes.lives(self.identity) if self.identity is not None else self.process() is not None


class WorkerRegistry:
    """The engines' rows: written by engines, read by fronts. A dead engine's row stays for a while."""

    def __init__(self, database: Database, processes: Processes | None = None, identity: str | None = None) -> None:
        """Read and write the rows in `database`; `identity` is that of the engine that writes, by default this process.

        `processes` is the machine's.
        """
        self._database = database
        self._processes = processes or Processes()
        self._identity = identity

    def register(self, device: str, silent_until: float) -> None:
        """Register this process as the engine of `device`; its next heartbeat is due at `silent_until`."""
        me = self.me()
        values = {
            "device": device,
            "pid": int(me.split("/")[2]),
            "created": psutil.Process().create_time(),
            "me": me,
            **self._due(silent_until),
        }
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT INTO engines"
                " (device, pid, pid_created, deadline_at, identity, silent_until, silence_s, oom_kills)"
                " VALUES (:device, :pid, :created, :deadline_at, :me, :silent_until, :silence_s, :oom_kills)",
                values,
            )
            connection.execute(
                "DELETE FROM engines WHERE seq <= last_insert_rowid() - ?"
                " AND (ended IS NOT NULL OR seq < (SELECT max(seq) FROM engines AS other"
                " WHERE other.device = engines.device))",
                (ROWS_KEPT,),
            )

    def heartbeat(self, device: str, silent_until: float, loaded: LoadedModels | None = None) -> None:
        """Write a heartbeat of this process, and the models it has `loaded`; None for no change.

        The next heartbeat is due at `silent_until`, on the clock of `Processes.now`.
        """
        with self._database.write(durable=False) as connection:
            connection.execute(
                "UPDATE engines SET ready = 1, deadline_at = :deadline_at, silent_until = :silent_until,"
                " silence_s = :silence_s, oom_kills = :oom_kills, loaded = coalesce(:loaded, loaded)"
                " WHERE device = :device AND identity = :me AND ended IS NULL",
                {
                    "loaded": loaded.model_dump_json() if loaded else None,
                    "device": device,
                    "me": self.me(),
                    **self._due(silent_until),
                },
            )

    def unregister(self, device: str) -> None:
        """Note that this process is the engine of `device` no longer, in good order."""
        self.note_end(device, self.me(), Ended.LEFT)

    def crash(self, device: str) -> None:
        """Note that this process, the engine of `device`, is about to end by an exception."""
        self.note_end(device, self.me(), Ended.CRASHED)

    def note_end(self, device: str, identity: str, how: Ended) -> None:
        """Note how an engine ended, unless that is known."""
        with self._database.write(durable=False) as connection:
            connection.execute(
                "UPDATE engines SET ended = ? WHERE device = ? AND identity = ? AND ended IS NULL",
                (how, device, identity),
            )

    def me(self) -> str:
        """Return the identity under which rows are written."""
        if self._identity is None:
            self._identity = self._processes.identity()
        return self._identity or f"-/-/{os.getpid()}/-"

    def _due(self, silent_until: float) -> dict[str, float | int]:
        silence_s = silent_until - self._processes.now()
        return {
            "silent_until": silent_until,
            "silence_s": max(0.0, silence_s),
            "deadline_at": time.time() + silence_s,
            "oom_kills": self._processes.oom_kills(),
        }

    def record_machine(self, device: str, machine: Machine) -> None:
        """Record the machine that an engine of `device` has found, beyond the engine's life."""
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO machines VALUES (?, ?, ?, ?, ?, ?)",
                (device, machine.name, machine.precision, machine.memory, machine.has_fp8, time.time()),
            )
            connection.execute("INSERT OR REPLACE INTO device_models VALUES (?, ?)", (device, machine.model))

    def machine(self, device: str) -> Machine | None:
        """Return the machine that an engine of `device` has recorded since it booted; None if none has."""
        rows = self._database.read("SELECT * FROM machines WHERE device = ?", device)
        if not rows or rows[0]["told_at"] < psutil.boot_time():  # hardware and drivers may be others now
            return None
        row = rows[0]
        if row["precision"] not in get_args(ComputePrecision):  # a word of a newer version on the same home
            return None
        return Machine(row["name"], row["precision"], row["memory"], bool(row["has_fp8"]))

    def get(self, device: str) -> WorkerRow | None:
        """Return the engine that registered last for `device`; None if there is none, or it left in good order."""
        row = self.last(device)
        return None if row is None or row.ended == Ended.LEFT else row

    def living(self) -> list[WorkerRow]:
        """Return the engines that live, one for each device; it does not check their locks."""
        return [row for row in self.registered() if row.lives(self._processes)]

    def registered(self) -> list[WorkerRow]:
        """Return the engines that have not ended in good order, one for each device; some may be dead."""
        rows = self._database.read(
            "SELECT * FROM engines WHERE seq IN (SELECT max(seq) FROM engines GROUP BY device)"
            " AND ended IS NOT ? ORDER BY device",
            Ended.LEFT,
        )
        return [_worker(row) for row in rows]

    def last(self, device: str) -> WorkerRow | None:
        """Return the engine that registered last for `device`, however it ended, or None."""
        rows = self._database.read("SELECT * FROM engines WHERE device = ? ORDER BY seq DESC LIMIT 1", device)
        if not rows:
            return None
        return _worker(rows[0])

    def of(self, identity: str) -> WorkerRow | None:
        """Return the engine of that identity, or None."""
        rows = self._database.read("SELECT * FROM engines WHERE identity = ? ORDER BY seq DESC LIMIT 1", identity)
        return _worker(rows[0]) if rows else None

    def was_ready(self, pid: int) -> bool:
        """Check whether the engine of that pid had become ready, even if later engines have registered."""
        rows = self._database.read("SELECT ready FROM engines WHERE pid = ? ORDER BY seq DESC LIMIT 1", pid)
        return bool(rows and rows[0]["ready"])


def _worker(row: sqlite3.Row) -> WorkerRow:
    try:
        loaded = LoadedModels.model_validate_json(row["loaded"], extra="ignore")
    except ValidationError:  # words of a newer version on the same home: only estimates need them
        loaded = LoadedModels()
    return WorkerRow(
        device=row["device"],
        pid=row["pid"],
        identity=row["identity"],
        pid_created=row["pid_created"],
        ready=bool(row["ready"]),
        deadline_at=row["deadline_at"],
        silent_until=row["silent_until"],
        silence_s=row["silence_s"] or 0.0,
        loaded=loaded,
        oom_kills=row["oom_kills"] or 0,
        ended=row["ended"],
    )
