"""The job table of a front that runs: opened at first use, watched for commits, and its engines supervised.

A front can answer without a table. While one is there, this notices what other processes commit, starts an engine when
jobs wait, notices its death, and ends it when it hangs.
"""

import logging
import time
from dataclasses import dataclass

import anyio
from anyio.to_thread import run_sync

from wan_mcp.errors import BadRequest, UnknownJob
from wan_mcp.jobs.asked import shrink_requests
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.history import JobHistory
from wan_mcp.jobs.notices import Notices
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.uploads import Uploads
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.service.background import Health
from wan_mcp.service.deletion import Deletion
from wan_mcp.service.owners import HOME_USER, own_job, owner_now
from wan_mcp.service.queue import Queue
from wan_mcp.service.retention import Retention, retain
from wan_mcp.settings import Settings

__all__ = ["LiveTable", "Table"]

log = logging.getLogger(__name__)

LOOK_S = 0.01  # how often a front looks for commits while somebody waits for a job that may finish any moment
GLANCE_S = 0.06  # the same while all awaited jobs have some time left: on a CPU, looking costs them cores
NEAR_S = 0.6  # "any moment", by what is expected
TEND_S = 0.5  # how often it supervises the engine while there is unfinished work
REST_S = 2.0  # how often it looks whether there is unfinished work at all


@dataclass(frozen=True)
class Table:
    """The opened job table and the objects that use it."""

    store: JobStore
    history: JobHistory
    deletion: Deletion
    retention: Retention
    timings: Timings
    engines: Supervisor
    queue: Queue


class LiveTable:
    """The job table of one home folder, for as long as a front runs."""

    def __init__(self, settings: Settings, processes: Processes | None = None) -> None:
        self.settings = settings
        self._processes = processes
        self.media = MediaStore(settings.home)
        self._opened: Table | None = None
        self._left: list[Table] = []
        self._opening = anyio.Lock()
        self._health = Health()
        self._changed = anyio.Event()
        self._wanted = anyio.Event()
        self._due: dict[object, float] = {}  # of each who waits: when its job may be done, 0 for any moment

    async def _table(self) -> Table:
        """Return the job table, opened at first use, so that a front can answer even without one.

        A table whose file was removed or set aside while this front runs is opened again: what is written into a
        file without a name is lost.
        """
        async with self._opening:
            if self._opened is not None and not self._opened.store.database.in_place():
                log.warning("the job table %s was removed or replaced; opening it again", self.settings.database)
                self._opened.engines.leave()
                self._left.append(self._opened)  # closed at the end: calls under way may still use it
                self._opened = None
            if self._opened is None:
                database = await run_sync(Database, self.settings.database)
                await run_sync(shrink_requests, database)
                store, history, timings = JobStore(database), JobHistory(database), Timings(database)
                deletion = Deletion(history, self.media)
                await run_sync(deletion.finish)
                engines = Supervisor(self.settings, store, self._processes)
                await run_sync(engines.join)
                queue = Queue(store, engines)
                retention = Retention(history, deletion, self.media)
                self._opened = Table(store, history, deletion, retention, timings, engines, queue)
        return self._opened

    async def _own_table(self, job_id: str) -> Table:
        """Return the job table, after a look whether a job in it is for the caller.

        Raises:
            UnknownJob: it is not, or there is none of that id.
        """
        table = await self._table()
        if owner_now() != HOME_USER:
            await run_sync(own_job, table.store, job_id)
        return table

    async def require_own_result(self, name: MediaName) -> None:
        """Refuse the result of another owner's job, as one that does not exist.

        Raises:
            BadRequest: it is not for the caller.
        """
        if owner_now() == HOME_USER:
            return
        try:
            await self._own_table(name.job_id)
        except UnknownJob as error:
            raise BadRequest(f"no result {name.uri}; it may have been deleted") from error

    def _has_table(self) -> bool:
        try:
            return self.settings.database.exists()
        except OSError:  # a home that may not be searched: opening the table raises the reason
            return False

    @property
    def trouble(self) -> str | None:
        """Why the engine is not supervised at present, in words; None while it is."""
        return self._health.trouble

    async def _keep(self) -> None:
        """Watch for commits and supervise the engine, for as long as this front runs."""
        if self._has_table() or self._health.trouble is not None:
            self._wanted.set()  # an earlier front, or an earlier try, may have left unfinished work
        while True:
            await self._wanted.wait()
            await self._follow(await self._table())

    async def _uploads(self) -> Uploads:
        return Uploads((await self._table()).store.database)

    async def _notices(self) -> tuple[JobStore, Notices] | None:
        """Return what `OnDone` needs of the job table; None while there is none."""
        if not self._has_table():
            return None
        table = await self._table()
        return table.store, Notices(table.store.database)

    async def _retain(self, health: Health) -> None:
        """Delete what the settings do not keep, for as long as this front runs."""

        async def retention() -> Retention | None:
            return (await self._table()).retention if self._has_table() else None

        if self.settings.keep_days or self.settings.keep_gb:
            await retain(retention, self.settings, health.works)
        await anyio.sleep_forever()

    async def _follow(self, table: Table) -> None:
        watch = table.store.database.watch()
        next_turn = 0.0
        try:
            while True:
                if watch.changed():
                    changed, self._changed = self._changed, anyio.Event()
                    changed.set()
                if time.monotonic() >= next_turn or self._wanted.is_set():
                    if table is not await self._table():
                        self._wanted.set()
                        return
                    self._wanted = anyio.Event()
                    busy = bool(await run_sync(table.store.unfinished))
                    if busy:
                        await run_sync(table.engines.supervise)
                    self._health.works()
                    next_turn = time.monotonic() + (TEND_S if busy else REST_S)
                if self._due:
                    near = min(self._due.values()) < time.monotonic() + NEAR_S
                    await anyio.sleep(LOOK_S if near else GLANCE_S)
                else:
                    with anyio.move_on_after(max(0.0, next_turn - time.monotonic())):
                        await self._wanted.wait()
        finally:
            watch.close()

    def close(self) -> None:
        """Close the job table."""
        for table in (*self._left, self._opened):
            if table is not None:
                table.engines.leave()
                table.store.database.close()
