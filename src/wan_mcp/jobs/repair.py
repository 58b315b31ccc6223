"""What to do with a damaged job table: set it aside, and save the rows that can still be read."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from filelock import Timeout

from wan_mcp.errors import HomeUnusable
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.engines import engine_lock
from wan_mcp.settings import Settings

__all__ = ["defects", "repair_table"]

SIDECARS = ("-wal", "-shm")


def defects(file: Path) -> str | None:
    """What SQLite finds wrong with the file; None if nothing."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            connection.execute("SELECT count(*) FROM jobs").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found)


def repair_table(settings: Settings) -> str:
    """Set a damaged table aside under a new name and start one with what could be read; says what was done.

    Raises:
        HomeUnusable: an engine runs, or the folder cannot be written.
    """
    file = settings.database
    if not file.exists() or (found := defects(file)) is None:
        return "the job table is not damaged: nothing to repair"
    try:
        with engine_lock(settings.home, settings.device).acquire(blocking=False):
            return _repair(file, found)
    except Timeout as error:
        raise HomeUnusable("an engine runs; wait until it has left, or end it, and repair then") from error


def _repair(file: Path, found: str) -> str:
    aside = file.with_name(f"{file.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for suffix in ("", *SIDECARS):
        part = file.with_name(file.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    database = Database(file)
    try:
        saved = _save_rows(aside, database)
    finally:
        database.close()
    return f"the job table was damaged ({found}); it lies now at {aside}, and {saved} of its jobs could be saved"


def _save_rows(damaged: Path, database: Database) -> int:
    """Copy job by job, going round what cannot be read: from both ends of the table towards the damage."""
    saved = 0
    with closing(sqlite3.connect(damaged)) as old:
        old.row_factory = sqlite3.Row
        for order in ("ASC", "DESC"):
            try:
                for row in old.execute(f"SELECT * FROM jobs ORDER BY seq {order}"):
                    saved += _save(row, database)
            except sqlite3.DatabaseError:
                continue
    return saved


def _save(row: sqlite3.Row, database: Database) -> int:
    columns = row.keys()
    with database.write() as connection:
        try:
            return connection.execute(
                f"INSERT OR IGNORE INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                tuple(row),
            ).rowcount
        except sqlite3.IntegrityError:  # a value that damage has turned into another type
            return 0
