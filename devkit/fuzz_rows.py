"""Odd values in the tables, from a seed: what an older, a newer or a broken wan-mcp may have written.

Each round spoils some values of the rows of a real home and then does what fronts and engines do with its tables. A
fault is an exception that is no `UserError`, an answer that speaks of a defect, or another row that suffers.
"""

import json
import random
import sqlite3
from collections.abc import Callable
from itertools import islice
from typing import Any

from mcp import Client
from mcp.types import CallToolResult, TextContent

from wan_mcp.errors import UserError
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import DeviceNames
from wan_mcp.jobs.notices import Notices
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.uploads import Uploads
from wan_mcp.schema.enums import JobState
from wan_mcp.service.repair import unreadable_rows
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings

__all__ = ["fuzz_rows"]

TABLES = (
    *("jobs", "jobs", "jobs", "jobs", "engines", "timings", "machines", "auto_device"),
    *("auto_devices", "device_models", "uploads", "notices"),
)
KEYS = {
    "jobs": {"seq", "id"},
    "engines": {"seq"},
    "machines": {"device"},
    "auto_device": {"only"},
    "auto_devices": {"place"},
    "device_models": {"device"},
    "uploads": {"id"},
    "notices": {"job"},
    "timings": set(),
}
"""The columns that are left as they are: they say which row it is."""
WORDS = (
    *(
        "",
        " ",
        "null",
        "{}",
        "[]",
        "[[]]",
        "0",
        "-1",
        "1e999",
        "true",
        '"',
        "{",
        "[" * 50_000,
        "\0",
        "\ud83d",
        "x" * 9999,
    ),
    *("queued", "running", "succeeded", "paused", "cpu", "cuda:0", "cuda:-1", "../x", "auto", "fp4", "text-to-3d"),
    *('{"stage": "dreaming"}', '[["crashed", "cpu"]]', '[["bored", "cpu"]]', "a/b/c/d", "-/-/0/-", "a/b/99999999999/d"),
    *("\x1b]0;x\x07", "𝕏" * 100, '{"uri": 1}', '[{"uri": "wan://x"}]', "'; DROP TABLE jobs; --"),
)
NUMBERS = (0, 1, -1, 2, 2**31, -(2**31), 2**53, 2**63 - 1, -(2**63))
REALS = (0.0, -0.0, 1.5, -1.0, 1e300, -1e300, 9e999, -9e999, 4e18, 1e-320)
GOOD = 6


async def fuzz_rows(settings: Settings, count: int | None, seed: int) -> list[str]:
    """Spoil the tables of a new home `count` times (without end if None); return the faults."""
    chance, faults = random.Random(seed), list[str]()
    with engine_lock(settings.home, "cpu"):  # no front starts an engine
        async with serving(settings) as service, Client(build_server(service)) as client:
            for number in range(GOOD):
                asked = {"prompt": f"job {number}", "request_id": f"number {number}", "wait_s": 0}
                await client.call_tool("generate_video", asked)
            database = Database(settings.database)
            try:
                home = _Home(settings, database)
                for number in islice(iter(int, 1) if count is None else range(count), count):
                    spoilt = home.spoil(chance)
                    where = f"round {number} of seed {seed}, {spoilt}: "
                    faults += [where + fault for fault in await _look(client, home)]
                    faults += [where + fault for fault in home.use()]
                    home.restore()
            finally:
                database.close()
    return faults


async def _look(client: Client, home: "_Home") -> list[str]:
    """Ask a front for everything that it reads from the tables."""
    faults = []
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_jobs", {"limit": 100}),
        ("list_resolutions", {"model": "wan-mini"}),
    ]
    calls += [("get_job", {"job_id": job, "wait_s": 0}) for job in home.jobs]
    for name, arguments in calls:
        answer = await client.call_tool(name, arguments)
        if "defect" in _words(answer):
            faults.append(f"{name} {arguments}: {_words(answer)[:300]}")
        if name == "get_job" and answer.is_error and arguments["job_id"] not in home.spoilt:
            faults.append(f"the job {arguments['job_id']} suffers: {_words(answer)[:300]}")
    return faults


def _words(answer: CallToolResult) -> str:
    return " ".join(block.text for block in answer.content if isinstance(block, TextContent))


class _Home:
    """The tables of a home, spoilt and restored."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._store = JobStore(database)
        self._prepare()
        self._kept = {table: [dict(row) for row in database.read(f"SELECT * FROM {table}")] for table in set(TABLES)}
        self.jobs = [row["id"] for row in self._kept["jobs"]]
        self.spoilt: set[str] = set()

    def _prepare(self) -> None:
        """Bring the jobs into all states, and fill the other tables."""
        for state in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED, None):
            job = self._store.claim("cpu", engine="-/-/1/-")
            assert job is not None
            if state is not None:
                self._store.finish(job, state)
        Timings(self._database).record_start("cpu", 1.0)
        with self._database.write() as connection:
            connection.execute("INSERT INTO machines VALUES ('cpu', 'a machine', 'fp32', 1, 0, 9e9)")
            connection.execute("INSERT OR REPLACE INTO auto_device VALUES (1, 'cpu')")
            connection.execute(
                "INSERT INTO engines (device, pid, pid_created, deadline_at, identity, silent_until, silence_s)"
                " VALUES ('cpu', 1, 0, 0, '-/-/1/-', 0, 0)"
            )
            connection.execute("INSERT INTO auto_devices VALUES (0, 'cpu')")
            connection.execute("INSERT INTO device_models VALUES ('cpu', 'a model')")
            connection.execute("INSERT INTO notices (job, attempts, next_at, problem) SELECT id, 1, 0, 'x' FROM jobs")
            connection.execute("UPDATE jobs SET notify = 'x'")
        uploads = Uploads(self._database)
        self._uploads = [uploads.add("", "0" * 64).id, uploads.offer("")[0].id]

    def spoil(self, chance: random.Random) -> str:
        """Change one to three values; return where."""
        changed = []
        for _ in range(chance.choice((1, 1, 2, 3))):
            table = chance.choice(TABLES)
            row = chance.choice(self._kept[table])
            column = chance.choice(sorted(row.keys() - KEYS[table]))
            value = _odd(chance, row[column])
            which = " AND ".join(f"{key} IS :{key}" for key in row)
            try:
                with self._database.write() as connection:
                    keys = KEYS[table] or row.keys()
                    which = " AND ".join(f"{key} IS :{key}" for key in keys)
                    changes = {**{key: row[key] for key in keys}, "odd_value": value}
                    connection.execute(f"UPDATE {table} SET {column} = :odd_value WHERE {which}", changes)
            except (sqlite3.IntegrityError, UnicodeEncodeError, OverflowError):  # nothing can write such a value
                continue
            changed.append(f"{table}.{column} = {str(value)[:60]!r}")
            if table == "jobs":
                self.spoilt.add(row["id"])
        return ", ".join(changed)

    def use(self) -> list[str]:
        """Do what engines, supervisors and `doctor` do with the tables."""
        faults = []
        supervisor, notices = Supervisor(self._settings, self._store), Notices(self._database)

        def repeat_notices() -> None:
            for due in notices.due("x", 1e12):
                notices.note_failure(due.job_id, 0.0, "x")

        uses: dict[str, Callable[[], object]] = {
            "supervise": supervisor.supervise,
            "the machine": supervisor.machine,
            "the engines": supervisor.engines,
            "claim": lambda: self._store.claim("cpu", engine="-/-/1/-"),
            "requeue": lambda: self._store.requeue_orphans("cpu"),
            "fail the hopeless": lambda: self._store.fail_hopeless([]),
            "find unreadable rows": lambda: unreadable_rows(self._database),
            "newest": lambda: self._store.listed(limit=100),
            "timings": lambda: Timings(self._database).record_start("cpu", 1.0),
            "the devices": lambda: DeviceNames(self._database).of("auto"),
            "the uploads": lambda: [Uploads(self._database).find(each, "") for each in self._uploads],
            "a link": lambda: Uploads(self._database).offer(""),
            "the notices": repeat_notices,
        }
        for name, use in uses.items():
            try:
                use()
            except UserError:
                continue
            except Exception as error:
                faults.append(f"{name}: {error!r}")
        supervisor.leave()
        return faults

    def restore(self) -> None:
        """Put everything back."""
        self.spoilt = set()
        with self._database.write(durable=False) as connection:
            for table, rows in self._kept.items():
                connection.execute(f"DELETE FROM {table}")
                connection.execute("DELETE FROM job_changes")  # their numbers are given out again here
                for row in rows:
                    names = ", ".join(row)
                    marks = ", ".join(f":{name}" for name in row)
                    connection.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", row)


def _odd(chance: random.Random, value: Any) -> Any:
    """Return an odd value: another one altogether, or a damaged copy of this one."""
    if isinstance(value, str) and value and chance.random() < 0.5:
        return _damaged(chance, value)
    kinds: tuple[tuple[Any, ...], ...] = (WORDS, NUMBERS, REALS, (None,))
    return chance.choice(chance.choice(kinds))


def _damaged(chance: random.Random, text: str) -> str:
    """Return a text that differs somewhere: a value of its JSON, or a few letters."""
    try:
        content = json.loads(text)
    except ValueError:
        content = None
    if isinstance(content, dict) and content and chance.random() < 0.7:
        key = chance.choice(sorted(content))
        content[key] = chance.choice((*NUMBERS, *WORDS[:14], None, [], {}, 10**400, True))
        try:
            return json.dumps(content)
        except ValueError:
            return text[: len(text) // 2]
    start = chance.randrange(len(text))
    return text[:start] + chance.choice(WORDS[:14]) + text[start + chance.randrange(4) :]
