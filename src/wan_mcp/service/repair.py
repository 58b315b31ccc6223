"""Repair of a damaged job table: set it aside, and recover the jobs that can still be read."""

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from wan_mcp.errors import HomeUnusable
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.store import JobStore
from wan_mcp.settings import Settings

__all__ = ["defects", "repair_table"]

SIDECARS = ("-wal", "-shm")


def defects(file: Path) -> str | None:
    """Return what SQLite finds wrong with the file; None if nothing."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            connection.execute("SELECT count(*) FROM jobs").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found)


def repair_table(settings: Settings) -> str:
    """Rename a damaged table, start a new one with the readable jobs, and return a report.

    Raises:
        HomeUnusable: an engine runs, or the folder cannot be written.
    """
    file = settings.database
    if not file.exists() or (found := defects(file)) is None:
        return "the job table is not damaged; nothing to repair"
    with _without_engines(settings):
        aside = _set_aside(file)
        database = Database(file)
        try:
            saved = sum(_save(row, database) for row in _readable_rows(aside))
        finally:
            database.close()
    return (
        f"the job table was damaged ({found}); it was moved to {aside}, and {saved} of its jobs were recovered. "
        "Restart all running servers: they still have the old table open."
    )


@contextmanager
def _without_engines(settings: Settings) -> Iterator[None]:
    """Hold the locks of all devices that this home has ever had, so that no engine can run meanwhile."""
    devices = {settings.device, *(file.stem for file in (settings.home / "engines").glob("*.lock"))}
    with ExitStack() as locks:
        for device in sorted(devices):
            try:
                locks.enter_context(engine_lock(settings.home, device).acquire(blocking=False))
            except Timeout as error:
                raise HomeUnusable("an engine is running; wait until it exits or stop it, then repair again") from error
        yield


def _set_aside(file: Path) -> Path:
    aside = file.with_name(f"{file.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}")
    try:
        for suffix in ("", *SIDECARS):
            part = file.with_name(file.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))
    except OSError as error:
        raise HomeUnusable(f"the job table {file} cannot be renamed: {error.strerror}") from error
    return aside


def _readable_rows(damaged: Path) -> Iterator[sqlite3.Row]:
    """Yield the readable jobs, one by one, so that a damaged page costs only the jobs on it."""
    with closing(sqlite3.connect(damaged)) as old:
        old.row_factory = sqlite3.Row
        for seq in range(1, _last_seq(old) + 1):
            try:
                yield from old.execute("SELECT * FROM jobs WHERE seq = ?", (seq,)).fetchall()
            except sqlite3.DatabaseError:
                continue


def _last_seq(old: sqlite3.Connection) -> int:
    for query in ("SELECT seq FROM sqlite_sequence WHERE name = 'jobs'", "SELECT max(seq) FROM jobs"):
        try:
            row = old.execute(query).fetchone()
        except sqlite3.DatabaseError:
            continue
        if row is not None and isinstance(row[0], int):
            return row[0]
    return 0


def _save(row: sqlite3.Row, database: Database) -> bool:
    """Save a row; return whether it could be saved and is a valid job."""
    columns = row.keys()
    with database.write() as connection:
        try:
            connection.execute(
                f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", tuple(row)
            )
        except sqlite3.IntegrityError:  # a value that damage has turned into another type, or into another's id
            return False
    try:
        JobStore(database).get(row["id"])
    except ValueError:  # what it holds has become nonsense
        with database.write() as connection:
            connection.execute("DELETE FROM jobs WHERE seq = ?", (row["seq"],))
        return False
    return True
