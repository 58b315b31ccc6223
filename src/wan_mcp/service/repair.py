"""Repair of the job table: recover the readable jobs of a damaged file, and mend rows that cannot be understood.

Nothing is lost for good: a damaged file, and each row that is changed or removed, is kept in the home folder.
"""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from filelock import Timeout

from wan_mcp.errors import HomeUnusable
from wan_mcp.files import atomic_file
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import AUTO, named
from wan_mcp.jobs.rows import UnreadableJob, read_row
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import JobError
from wan_mcp.settings import Settings

__all__ = ["defects", "repair_table", "unreadable_rows"]

SIDECARS = ("-wal", "-shm")
# What replaces a value that cannot be understood, where the rest of its row can.
MENDED: dict[str, Any] = {
    "state": JobState.FAILED.value,
    "progress": None,
    "error": None,
    "artifacts": "[]",
    "notes": "[]",
    "device": None,
    "attempt": 0,
    "deaths": 0,
    "created_at": 0.0,
    "started_at": None,
    "updated_at": None,
    "finished_at": None,
}


def defects(file: Path) -> str | None:
    """Return what SQLite finds wrong with the file; None if nothing."""
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            connection.execute("SELECT count(*) FROM jobs").fetchone()
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == "ok" else str(found)


def unreadable_rows(database: Database) -> list[UnreadableJob]:
    """Return the rows that this version cannot understand, or whose progress it cannot, oldest first."""
    return [found for row in _rows(database) if (found := _defect(row)) is not None]


def repair_table(settings: Settings) -> str:
    """Mend the job table, and return a report.

    A damaged file is renamed, and a new one is started with its readable jobs. In a file that is whole, the rows that
    cannot be understood are mended, or removed if their plan is beyond repair.

    Raises:
        HomeUnusable: an engine runs, or the folder cannot be written.
    """
    file = settings.database
    if not file.exists():
        return "the job table is not damaged; nothing to repair"
    if (found := defects(file)) is None:
        return _repair_rows(settings)
    with _without_engines(settings):
        aside = _set_aside(file)
        database = Database(file)
        try:
            saved = sum(_save(row, database) for row in _readable_rows(aside))
        finally:
            database.close()
    return (
        f"the job table was damaged ({found}); it was moved to {aside}, and {saved} of its jobs were recovered. "
        "Running servers open the new table by themselves."
    )


def _repair_rows(settings: Settings) -> str:
    database = Database(settings.database)
    try:
        if not unreadable_rows(database):
            return "the job table is not damaged; nothing to repair"
        with _without_engines(settings):
            bad = [row for row in _rows(database) if _defect(row) is not None]
            kept = settings.database.with_name(f"jobs.db.unreadable-{_stamp()}.jsonl")
            with atomic_file(kept, durable=True, private=True) as temporary:
                temporary.write_text("".join(json.dumps(dict(row)) + "\n" for row in bad), encoding="utf-8")
            mended = sum(_mend(row, database) for row in bad)
    except OSError as error:
        raise HomeUnusable(f"the folder {settings.home} cannot be written: {error.strerror}") from error
    finally:
        database.close()
    return (
        f"{mended} jobs of the job table were mended, and {len(bad) - mended} whose plan cannot be understood were "
        f"removed; what their rows held is in {kept}"
    )


def _rows(database: Database) -> list[sqlite3.Row]:
    return database.read("SELECT * FROM jobs ORDER BY seq")


def _defect(row: sqlite3.Row) -> UnreadableJob | None:
    job = read_row(row)
    if isinstance(job, UnreadableJob):
        return job
    if row["progress"] and job.progress is None:
        return UnreadableJob(job.id, job.state, "its progress cannot be understood")
    return None


def _mend(row: sqlite3.Row, database: Database) -> bool:
    """Replace what cannot be understood in a row; remove the row, and return False, if that is its plan."""
    values = dict(row)
    if isinstance(read_row(values | MENDED), UnreadableJob):
        with database.write() as connection:
            connection.execute("DELETE FROM jobs WHERE seq = ?", (row["seq"],))
        return False
    changes = {name: MENDED[name] for name in MENDED if not _fits(values, name)}
    if "state" in changes:
        reason = f"The state of this job, '{row['state']}', is unknown to this version of wan-mcp; a repair ended it."
        changes["error"] = JobError(code="unreadable", message=reason).model_dump_json()
    with database.write() as connection:
        connection.execute(
            f"UPDATE jobs SET {', '.join(f'{name} = :{name}' for name in changes)} WHERE seq = :seq",
            changes | {"seq": row["seq"]},
        )
    return True


def _fits(values: dict[str, Any], name: str) -> bool:
    """Check whether one value of a row can be understood."""
    job = read_row(values | MENDED | {name: values[name]})
    return not isinstance(job, UnreadableJob) and (name != "progress" or not values[name] or job.progress is not None)


@contextmanager
def _without_engines(settings: Settings) -> Iterator[None]:
    """Hold the locks of all devices that this home has ever had, so that no engine can run meanwhile."""
    had = (file.stem.replace("-", ":") for file in (settings.home / "engines").glob("*.lock"))
    devices = {*(named(settings.device) or (AUTO,)), *had}
    with ExitStack() as locks:
        for device in sorted(devices):
            try:
                locks.enter_context(engine_lock(settings.home, device).acquire(blocking=False))
            except Timeout as error:
                raise HomeUnusable("an engine is running; wait until it exits or stop it, then repair again") from error
        yield


def _set_aside(file: Path) -> Path:
    aside = file.with_name(f"{file.name}.damaged-{_stamp()}")
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
        old.text_factory = partial(str, encoding="utf-8", errors="replace")
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


def _stamp() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}"


def _save(row: sqlite3.Row, database: Database) -> bool:
    """Save a row of a damaged table; return whether it could be saved and is a valid job."""
    if isinstance(read_row(row), UnreadableJob):  # it has become nonsense
        return False
    with database.write() as connection:
        # A newer version may have added columns.
        known = {column["name"] for column in connection.execute("PRAGMA table_info(jobs)")}
        columns = [column for column in row.keys() if column in known]  # noqa: SIM118  # a Row iterates over its values
        try:
            connection.execute(
                f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
                [row[column] for column in columns],
            )
        except sqlite3.IntegrityError:  # a value that damage has turned into another type, or into another's id
            return False
    return True
