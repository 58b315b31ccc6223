"""What changes about jobs, for the clients that follow some of them: read from the table once, however many follow.

The change may come from any process: an engine, another front, the command line. Nothing is read while nobody follows.
"""

import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import anyio

from wan_mcp.errors import UserError
from wan_mcp.jobs.history import JobChanges
from wan_mcp.schema.enums import JobState
from wan_mcp.service.background import Health, background, retried
from wan_mcp.service.owners import HOME_USER, owner_now
from wan_mcp.service.service import JobService

__all__ = ["GALLERY", "Follower", "JobUpdates", "job_uri"]

log = logging.getLogger(__name__)

PAUSE_S = 0.25  # between two looks: the reports of a fast job are joined
PATIENCE_S = 20.0  # of one look without a change
RETRY_S = 1.0
GALLERY = "wan://gallery"


def job_uri(job_id: str) -> str:
    """Return the address of a job as a resource."""
    return f"wan://jobs/{job_id}"


class Follower:
    """One client's choice of addresses, and which of them have changed since it last looked.

    A change counts once until it is looked at, so a client that reads slowly costs no more memory than it has named
    addresses.
    """

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self.wanted: set[str] = set()
        self.closed = False
        self._changed: dict[str, None] = {}
        self._news = anyio.Event()

    def put(self, addresses: Iterable[str]) -> None:
        """Note changes, as far as they are wanted."""
        found = [address for address in addresses if address in self.wanted]
        self._changed.update(dict.fromkeys(found))
        if found:
            self._news.set()

    def close(self) -> None:
        """Let the follower end."""
        self.closed = True
        self._news.set()

    async def changes(self) -> AsyncIterator[str]:
        """Yield addresses whose resources have changed, until the follower is closed."""
        while not self.closed:
            await self._news.wait()
            self._news = anyio.Event()
            while self._changed and not self.closed:
                address = next(iter(self._changed))
                del self._changed[address]
                if address in self.wanted:
                    yield address


class JobUpdates:
    """The changes of all jobs of a service, while `running`."""

    def __init__(self, service: JobService) -> None:
        self._service = service
        self._followers: set[Follower] = set()
        self._joining = anyio.Lock()
        self._wanted = anyio.Event()
        self._cursor = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read changes while somebody follows, until the block ends."""
        async with background(retried(self._run, "clients hear of no changes", Health())):
            yield

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Follower]:
        """Provide a follower for the current caller, which misses nothing from now on until the block ends."""
        follower = Follower(owner_now())
        async with self._joining:
            if not self._followers:
                self._cursor = await self._service.cursor()
            self._followers.add(follower)
            self._wanted.set()
        try:
            yield follower
        finally:
            self._followers.discard(follower)
            if not self._followers:
                self._wanted = anyio.Event()

    def __len__(self) -> int:
        return len(self._followers)

    def close(self) -> None:
        """End all followers: the server stops."""
        for follower in self._followers:
            follower.close()

    async def _run(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
            except UserError as error:
                log.warning("clients hear of no changes for now: %s", error)
                await anyio.sleep(RETRY_S)

    async def _follow(self) -> None:
        while self._followers:
            changes = await self._service.changed_since(self._cursor, PATIENCE_S)
            for follower in self._followers:
                # Nobody knows what has changed in a table that was replaced.
                follower.put(list(follower.wanted) if changes.restarted else _addresses(changes, follower.owner))
            self._cursor = changes.cursor
            if not changes.more:
                await anyio.sleep(PAUSE_S)


def _addresses(changes: JobChanges, owner: str) -> list[str]:
    """Return the resources that a change is about, as an owner sees them: a gallery has the owner's results only."""
    listed = changes.jobs
    ids = [*(job.id for job in listed.jobs), *(row.id for row in listed.unreadable), *changes.deleted]
    owners = [job.owner for job in listed.jobs if job.state is JobState.SUCCEEDED]
    owners += [changes.owners_of_deleted.get(job_id, HOME_USER) for job_id in changes.deleted]
    results = owners if owner == HOME_USER else owner in owners
    return [*map(job_uri, ids), *([GALLERY] if results else [])]
