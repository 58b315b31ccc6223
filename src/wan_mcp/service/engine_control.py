"""The engines of a home, seen and stopped from outside."""

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from wan_mcp.errors import BadRequest
from wan_mcp.jobs.cluster_devices import cluster_serves
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.orphans import engines_on
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState

__all__ = ["EngineStatus", "engines_of", "is_served_by_cluster", "stop_engine"]


@dataclass(frozen=True)
class EngineStatus:
    """An engine that runs."""

    device: str
    pid: int
    ready: bool
    """False while it starts."""
    models: tuple[str, ...]
    """The models in its memory."""
    job: str | None
    """The job that it runs."""
    queued: int
    """Jobs of this home that wait."""
    identity: str | None


def engines_of(home: Path) -> list[EngineStatus]:
    """Return the engines that run for a home.

    Raises:
        HomeUnusable: the home folder or the job table cannot be used.
    """
    file = home / "jobs.db"
    if not file.exists():
        return []
    database = Database(file)
    try:
        processes = Processes()
        rows, unfinished = WorkerRegistry(database, processes), JobStore(database).unfinished()
        found = []
        for device in engines_on(home, rows, processes):
            row = rows.get(device)
            if row is None:
                continue
            loaded = (row.loaded.generator[0] if row.loaded.generator else None, row.loaded.captioner)
            at_work = [job.id for job in unfinished if job.state is JobState.RUNNING and job.device == device]
            found.append(
                EngineStatus(
                    device=device,
                    pid=row.pid,
                    ready=row.ready,
                    models=tuple(name for name in loaded if name is not None),
                    job=at_work[0] if at_work else None,
                    queued=sum(job.state is JobState.QUEUED for job in unfinished),
                    identity=row.identity,
                )
            )
        return found
    finally:
        database.close()


def is_served_by_cluster(home: Path) -> bool:
    """Check whether GPUs of a cluster take the jobs of a home.

    Raises:
        HomeUnusable: the home folder or the job table cannot be used.
    """
    file = home / "jobs.db"
    if not file.exists():
        return False
    database = Database(file)
    try:
        processes = Processes()
        return cluster_serves(home, WorkerRegistry(database, processes), processes)
    finally:
        database.close()


def stop_engine(home: Path, engine: EngineStatus, *, seconds: float, force: bool = False) -> bool:
    """End an engine in good order, so that its memory is free; return False if it has not ended after `seconds`.

    A job that it runs returns to the queue and begins again with the next engine, which any front starts.

    Raises:
        BadRequest: it runs a job, and `force` is not set; or it cannot be reached from here.
    """
    if engine.job is not None and not force:
        raise BadRequest(
            f"the engine of {engine.device} is running job {engine.job}, which would begin again from the start; "
            f"wait for it, cancel it, or add --force"
        )
    processes = Processes()
    if engine.identity is None or not processes.lives(engine.identity):
        raise BadRequest(f"the engine of {engine.device} runs where this command cannot reach it; stop it there")
    with suppress(ProcessLookupError):
        try:
            os.kill(engine.pid, signal.SIGTERM)
        except PermissionError as error:
            raise BadRequest(f"the engine of {engine.device} belongs to another user, who can stop it") from error
    until = time.monotonic() + seconds
    lock = engine_lock(home, engine.device)
    while processes.lives(engine.identity):
        left = until - time.monotonic()
        if left <= 0:
            return False
        with suppress(Timeout):  # it gives its lock back when it has freed the device, a moment before it ends
            lock.acquire(timeout=min(left, 0.2)).lock.release()
    return True
