"""The SQLite file: connections, schema, migrations, and helpful errors.

WAL lets any number of fronts read while an engine writes. What a caller was told (a job is
submitted, cancelled, finished) is committed with a full sync and survives a power cut; the rest
is not worth one: without it the job is simply run again.
"""

import sqlite3
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.jobs.connection import Connection
from wan_mcp.permissions import create_file, open_home
from wan_mcp.text import folded

__all__ = ["Database", "Remembered", "Watch", "translated"]

T = TypeVar("T")

BUSY_TIMEOUT_MS = 20_000

MIGRATIONS = (
    """
    CREATE TABLE jobs (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        request_id TEXT UNIQUE,
        request TEXT NOT NULL,
        state TEXT NOT NULL,
        plan TEXT NOT NULL,
        progress TEXT,
        error TEXT,
        artifacts TEXT NOT NULL DEFAULT '[]',
        caption TEXT,
        notes TEXT NOT NULL DEFAULT '[]',
        cancel_requested INTEGER NOT NULL DEFAULT 0,
        device TEXT,
        attempt INTEGER NOT NULL DEFAULT 0,
        deaths INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        started_at REAL,
        updated_at REAL,
        finished_at REAL
    ) STRICT;
    CREATE INDEX jobs_by_state ON jobs (state, seq);
    CREATE TABLE engines (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL,
        pid INTEGER NOT NULL,
        pid_created REAL NOT NULL,
        ready INTEGER NOT NULL DEFAULT 0,
        deadline_at REAL NOT NULL
    ) STRICT;
    CREATE TABLE timings (
        device TEXT NOT NULL,
        model TEXT NOT NULL,
        stage TEXT NOT NULL,
        size REAL NOT NULL,
        seconds REAL NOT NULL,
        measured_at REAL NOT NULL
    ) STRICT;
    CREATE INDEX timings_by_stage ON timings (device, model, stage, measured_at);
    """,
    # Denoising was measured in pixels before; it is in tokens now, for each variant apart.
    """
    DELETE FROM timings WHERE stage = 'denoising';
    ALTER TABLE timings ADD COLUMN variant TEXT NOT NULL DEFAULT '';
    """,
    """
    CREATE TABLE machines (
        device TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        precision TEXT NOT NULL,
        memory INTEGER,
        has_fp8 INTEGER NOT NULL,
        told_at REAL NOT NULL
    ) STRICT;
    """,
    """
    CREATE TABLE auto_device (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        device TEXT NOT NULL
    ) STRICT;
    """,
    "ALTER TABLE engines ADD COLUMN loaded TEXT NOT NULL DEFAULT '{}'",
)


# Changes that only add something, which versions without them do not notice. They do not count as a migration: the
# version of the table stays, and an older wan-mcp can use the same home at the same time.
ADDITIONS = (
    # What auto means, in order; `auto_device` has the first, for versions that know only that.
    "CREATE TABLE IF NOT EXISTS auto_devices (place INTEGER PRIMARY KEY, device TEXT NOT NULL) STRICT",
    "CREATE TABLE IF NOT EXISTS shrunk_requests (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL) STRICT",
    # The name of each device's hardware: what was measured on one is expected of another of the same name.
    "CREATE TABLE IF NOT EXISTS device_models (device TEXT PRIMARY KEY, model TEXT NOT NULL) STRICT",
    # The latest change of each job, for those who follow all of them. Triggers note it, so that what an older version
    # does is noted as well. A deleted job leaves its row here; `files_left` is 1 until its files are gone too.
    """
    CREATE TABLE IF NOT EXISTS job_changes (
        revision INTEGER PRIMARY KEY AUTOINCREMENT,
        job INTEGER NOT NULL UNIQUE,
        id TEXT NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0,
        files_left INTEGER NOT NULL DEFAULT 0
    ) STRICT
    """,
    # Pictures that were sent on their own, and links by which one may be sent: see `jobs/uploads.py`.
    """
    CREATE TABLE IF NOT EXISTS uploads (
        id TEXT PRIMARY KEY,
        owner TEXT NOT NULL,
        link TEXT UNIQUE,
        tries INTEGER NOT NULL DEFAULT 0,
        sha256 TEXT,
        expires_at REAL NOT NULL
    ) STRICT
    """,
    # What has come so far of telling a program of the owner's that a job has ended: see `jobs/notices.py`.
    """
    CREATE TABLE IF NOT EXISTS notices (
        job TEXT PRIMARY KEY,
        attempts INTEGER NOT NULL,
        next_at REAL NOT NULL,
        problem TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TRIGGER IF NOT EXISTS job_inserted AFTER INSERT ON jobs BEGIN
        INSERT INTO job_changes (job, id) VALUES (NEW.seq, NEW.id);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS job_updated AFTER UPDATE ON jobs BEGIN
        DELETE FROM job_changes WHERE job = NEW.seq;
        INSERT INTO job_changes (job, id) VALUES (NEW.seq, NEW.id);
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS job_deleted AFTER DELETE ON jobs BEGIN
        DELETE FROM job_changes WHERE job = OLD.seq;
        INSERT INTO job_changes (job, id, deleted) VALUES (OLD.seq, OLD.id, 1);
    END
    """,
)
ADDED_COLUMNS = (
    ("engines", "identity", "TEXT"),
    ("engines", "silent_until", "REAL"),
    ("engines", "silence_s", "REAL"),
    ("engines", "oom_kills", "INTEGER"),
    ("engines", "ended", "TEXT"),
    ("jobs", "evidence", "TEXT"),
    ("jobs", "settings", "TEXT"),
    ("jobs", "engine", "TEXT"),
    ("jobs", "client", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "owner", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "kept", "INTEGER NOT NULL DEFAULT 0"),
    ("jobs", "parent", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "turn", "INTEGER NOT NULL DEFAULT 0"),
    ("jobs", "place", "INTEGER"),
    ("jobs", "output_dir", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "download_limit", "INTEGER"),
    ("jobs", "notify", "TEXT NOT NULL DEFAULT ''"),
    ("jobs", "reviews", "INTEGER NOT NULL DEFAULT 0"),
    ("jobs", "passed", "INTEGER NOT NULL DEFAULT 0"),
)
"""Table, column and declaration of each column that was added in this way."""
ADDED_INDEXES = (
    "CREATE INDEX IF NOT EXISTS jobs_in_line ON jobs (turn, seq) WHERE state = 'queued'",
    "CREATE INDEX IF NOT EXISTS turns_served ON jobs (turn) WHERE started_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS jobs_to_tell ON jobs (notify) WHERE notify != ''",
    "CREATE INDEX IF NOT EXISTS turns_of_clients ON jobs (client, owner, turn)",
)
"""Of the columns above."""
ADDED_TRIGGERS = (
    "CREATE TABLE IF NOT EXISTS owners_of_deleted (job INTEGER PRIMARY KEY, owner TEXT NOT NULL) STRICT",
    "CREATE TRIGGER IF NOT EXISTS owned_job_deleted AFTER DELETE ON jobs WHEN OLD.owner <> ''"
    " BEGIN INSERT OR REPLACE INTO owners_of_deleted VALUES (OLD.seq, OLD.owner); END",
)  # whose the deleted jobs were, for those who follow their own jobs only

WAL_BYTES = 16_000_000  # a write-ahead log that has grown larger is cut when it is reset


@contextmanager
def translated(file: Path) -> Iterator[None]:
    """Translate SQLite's errors into ours.

    Raises:
        OutOfSpace: the disk is full.
        HomeUnusable: the file is damaged, is not a database, or cannot be opened or written.
    """
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_FULL:
            raise OutOfSpace(f"no space left for the job table {file}; free some and try again") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise HomeUnusable(
                f"the job table {file} is damaged; 'wan-mcp doctor --repair' recovers the readable jobs "
                "into a new one (media files are not touched)"
            ) from error
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_IOERR):
            raise HomeUnusable(
                f"the job table {file} cannot be opened or written ({error}); "
                "check the folder's permissions and disk, or set WAN_MCP_HOME to another folder"
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise HomeUnusable(
                f"the job table {file} stayed locked for {BUSY_TIMEOUT_MS // 1000} s; try again"
            ) from error
        raise


class Database:
    """One process's access to the file: a connection for reads and one for writes, safe in threads."""

    def __init__(self, file: Path) -> None:
        """Open the file, and create or migrate it.

        Raises:
            HomeUnusable: it cannot be used; says why and what to do.
            OutOfSpace: the disk is full.
        """
        self.file = file
        open_home(file.parent)
        with suppress(OSError):  # opening the file says it better
            create_file(file)
        with translated(file), ExitStack() as ends:
            self._writes = ends.enter_context(closing(Connection(self._connect_to_write, order=1)))
            self._migrate()
            self._reads = ends.enter_context(closing(Connection(self._connect_to_read, order=2)))
            ends.pop_all()
        self._identity = _identity(file)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        # Text that is not UTF-8 would fail every query that meets it, not only its own row.
        connection.text_factory = partial(str, encoding="utf-8", errors="replace")
        connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute(f"PRAGMA journal_size_limit = {WAL_BYTES}")
        connection.create_function("folded", 1, folded, deterministic=True)
        return connection

    def _connect_to_write(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA journal_mode = WAL")
        return connection

    def _connect_to_read(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = 1")
        return connection

    def _migrate(self) -> None:
        with self._transaction(durable=True) as connection:
            version: int = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > len(MIGRATIONS):
                raise HomeUnusable(
                    f"the job table {self.file} was created by a newer wan-mcp; "
                    "upgrade, or set WAN_MCP_HOME to another folder"
                )
            for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
                for statement in migration.split(";"):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {number}")
            for statement in ADDITIONS:
                connection.execute(statement)
            for table, column, declaration in ADDED_COLUMNS:
                if column not in {row["name"] for row in connection.execute(f"PRAGMA table_info({table})")}:
                    connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {declaration}")
            for statement in (*ADDED_INDEXES, *ADDED_TRIGGERS):
                connection.execute(statement)

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[sqlite3.Connection]:
        connection = self._writes.sqlite
        connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """Run a write transaction; a `durable` one is on the disk when it ends.

        Raises:
            OutOfSpace: the disk is full.
            HomeUnusable: the file is damaged or cannot be written.
        """
        with translated(self.file), self._writes.lock, self._transaction(durable=durable) as connection:
            yield connection

    def read(self, sql: str, *parameters: Any, **named: Any) -> list[sqlite3.Row]:
        """Return all rows of a query: `parameters` for placeholders `?`, or `named` ones for `:name`.

        Raises:
            HomeUnusable: the file is damaged or cannot be read.
        """
        with translated(self.file), self._reads.lock:
            return self._reads.sqlite.execute(sql, named or parameters).fetchall()

    def version(self) -> int:
        """Return a number that changes when anything is committed, by this process or another."""
        with translated(self.file), self._reads.lock:
            return _version_of(self._reads)

    def in_place(self) -> bool:
        """Check that the path still leads to the file that was opened, and not to none or to another."""
        try:
            return self._identity == _identity(self.file)
        except FileNotFoundError:
            return False
        except OSError:  # a folder that may not be searched says nothing about the file
            return True

    def watch(self) -> "Watch":
        """Return a cheap detector of commits."""
        return Watch(Connection(self._connect, order=3))

    def close(self) -> None:
        """Close both connections."""
        self._writes.close()
        self._reads.close()


class Remembered:
    """What was read from the table, kept until something is committed: nobody reads again what has not changed."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: tuple[int, dict[Hashable, Any]] = (-1, {})

    def get(self, key: Hashable, read: Callable[[], T]) -> T:
        """Return what `read` returned for `key` since the last commit, or call it."""
        version = self._database.version()  # before the read: what is kept may be newer than its number, never older
        kept_version, kept = self._kept
        if kept_version != version:
            kept = {}
            self._kept = version, kept
        if key not in kept:
            kept[key] = read()
        value: T = kept[key]
        return value


def _version_of(connection: Connection) -> int:
    """Return a number that changes with each commit of others; of an opened connection, its lower half is SQLite's."""
    version: int = connection.sqlite.execute("PRAGMA data_version").fetchone()[0]
    return connection.opened << 32 | version


def _identity(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_dev, status.st_ino


class Watch:
    """A detector of commits to the file, by this process or another, in a few microseconds.

    `PRAGMA data_version` changes whenever another connection has committed
    (https://www.sqlite.org/pragma.html#pragma_data_version). One thread at a time.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._seen = -1

    def changed(self) -> bool:
        """Check whether anything was committed since the last call; true on the first."""
        with self._connection.lock:
            version = _version_of(self._connection)
        changed = version != self._seen
        self._seen = version
        return changed

    def wait(self, seconds: float, interval: float = 0.01) -> bool:
        """Block until something is committed, at most `seconds`; return whether it was."""
        end = time.monotonic() + seconds
        while not self.changed():
            left = end - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(interval, left))
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
