"""The changes of all jobs, for every open page: read from the table once, encoded once, sent to each.

Nothing is read while no page is open, and nothing that has not changed. A page that reads too slowly gets a fresh
snapshot instead of all that it has missed.
"""

import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any

import anyio
from anyio.to_thread import run_sync

from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.web.answers import without_paths
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.jobs.history import JobChanges
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.owners import HOME_USER
from wan_mcp.service.service import JobService

__all__ = ["Feed", "Packet"]

log = logging.getLogger(__name__)

PAUSE_S = 0.15  # between two looks: the reports of a fast job are joined
PATIENCE_S = 20.0  # of one look without a change
RETRY_S = 1.0
LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}
"""Of Unicode, which JSON does not escape and which some clients take for the end of a line."""
BACKLOG = 64  # packets that wait for one page
CHANGES = "jobs"
"""The event that tells of jobs that have changed."""
ACTIVE = (JobState.QUEUED, JobState.RUNNING)


class Packet:
    """One event of the stream, encoded once for all pages that read the same of it."""

    def __init__(
        self, event: str, data: dict[str, Any], cursor: int | None, service: JobService, owners: dict[str, str]
    ) -> None:
        """Keep an event; `owners` are those of the jobs in `data`, by id."""
        self._event, self._data, self._cursor, self._home = event, data, cursor, service.settings.home
        self._owners = owners
        self._encoded: dict[tuple[bool, str], bytes] = {}

    def encoded(self, *, near: bool, owner: str = HOME_USER) -> bytes:
        """Return the bytes for a page of an owner; none if no part of the event is for it."""
        if (near, owner) not in self._encoded:
            data = self._of(owner)
            if self._event == CHANGES and not any(data.values()):
                return b""
            data = data if near else without_paths(data, self._home)
            head = "" if self._cursor is None else f"id: {self._cursor}\n"
            words = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            words = words.translate(LINE_ENDS)
            self._encoded[near, owner] = f"{head}event: {self._event}\ndata: {words}\n\n".encode()
        return self._encoded[near, owner]

    def _of(self, owner: str) -> dict[str, Any]:
        """Return the event with the jobs of one owner."""
        if owner == HOME_USER:
            return self._data
        mine = {job_id for job_id, of in self._owners.items() if of == owner}
        jobs = {"jobs": [card for card in self._data["jobs"] if card["id"] in mine]} if "jobs" in self._data else {}
        gone = {"deleted": [each for each in self._data["deleted"] if each in mine]} if "deleted" in self._data else {}
        return {**self._data, **jobs, **gone}


class _Reader:
    """What waits for one page."""

    def __init__(self) -> None:
        self.packets: deque[Packet] = deque()
        self.news = anyio.Event()
        self.behind = False

    def put(self, packet: Packet) -> None:
        if len(self.packets) >= BACKLOG:
            self.packets.clear()
            self.behind = True
        elif not self.behind:
            self.packets.append(packet)
        self.news.set()


class Feed:
    """The stream of events of one server. `run` has to run for as long as the server does."""

    def __init__(self, service: JobService, cards: Cards) -> None:
        self._service, self._cards = service, cards
        self._readers: set[_Reader] = set()
        self._wanted = anyio.Event()
        self._closed = False
        self._sent: dict[str, object] = {}  # the latest card of each unfinished job
        self._cursor = 0

    async def run(self) -> None:
        """Read changes while a page is open."""
        while True:
            await self._wanted.wait()
            try:
                await self._follow()
            except UserError as error:
                log.warning("pages receive no changes for now: %s", error)
                await anyio.sleep(RETRY_S)

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for reader in self._readers:
            reader.news.set()

    def publish(self, event: str, data: dict[str, Any]) -> None:
        """Send an event that is not about jobs to every open page."""
        if self._readers:
            self._put(Packet(event, data, None, self._service, {}))

    async def subscribe(self, since: int | None, *, near: bool, owner: str = HOME_USER) -> AsyncIterator[bytes]:
        """Yield the events of a page that has seen all until `since`; without it, a snapshot comes first."""
        reader = _Reader()
        self._readers.add(reader)
        self._wanted.set()
        try:
            async for packet in self._missed(since):
                yield packet.encoded(near=near, owner=owner)
            while not self._closed:
                while reader.packets and not self._closed:
                    if words := reader.packets.popleft().encoded(near=near, owner=owner):
                        yield words
                if reader.behind:
                    reader.behind = False
                    yield (await self._snapshot()).encoded(near=near, owner=owner)
                    continue
                reader.news = anyio.Event()
                if not reader.packets and not reader.behind and not self._closed:
                    await reader.news.wait()
        finally:
            self._readers.discard(reader)
            if not self._readers:
                self._wanted = anyio.Event()

    async def _missed(self, since: int | None) -> AsyncIterator[Packet]:
        """Yield what a page that comes back has missed; a snapshot for a new one, and where that cannot be known."""
        while since is not None and not self._closed:
            changes = await self._service.changed_since(since)
            if changes.restarted:
                break
            if not changes.more and not changes.jobs.jobs and not changes.deleted:
                return
            yield await self._changed(changes)
            since = changes.cursor
            if not changes.more:
                return
        yield await self._snapshot()

    async def _snapshot(self) -> Packet:
        cursor = await self._service.cursor()  # before the look, so that no change between is missed
        active = (await self._service.find(states=ACTIVE, limit=1000)).jobs
        cards = await self._encoded(reversed(active))
        data = {"jobs": list(cards.values()), "cursor": cursor}
        return Packet("snapshot", data, cursor, self._service, _owners(active))

    async def _follow(self) -> None:
        """Send what changes, until no page is open."""
        self._cursor = await self._service.cursor()
        self._sent = {}
        while self._readers and not self._closed:
            changes = await self._service.changed_since(self._cursor, PATIENCE_S)
            if changes.restarted:
                self._put(await self._snapshot())
                self._sent = {}
            elif changes.cursor != self._cursor:
                self._put(await self._changed(changes))
                await self._move_up(changes.cursor)
            self._cursor = changes.cursor
            if not changes.more:
                await anyio.sleep(PAUSE_S)

    async def _changed(self, changes: JobChanges) -> Packet:
        cards = await self._encoded(changes.jobs.jobs)
        data = {"jobs": list(cards.values()), "deleted": list(changes.deleted)}
        owners = _owners(changes.jobs.jobs) | dict(changes.owners_of_deleted)
        return Packet(CHANGES, data, changes.cursor, self._service, owners)

    async def _move_up(self, cursor: int) -> None:
        """Send the waiting jobs whose place or time has changed with that of another."""
        queued = (await self._service.find(states=(JobState.QUEUED,), limit=1000)).jobs
        cards = await self._encoded(reversed(queued))
        moved = [card for job_id, card in cards.items() if self._sent.get(job_id, card) != card]
        self._sent = dict(cards)
        if moved:
            data = {"jobs": moved, "deleted": []}
            self._put(Packet(CHANGES, data, cursor, self._service, _owners(queued)))

    async def _encoded(self, jobs: Iterable[Job]) -> dict[str, object]:
        """Return the cards of jobs as JSON values."""
        cards: dict[str, object] = {}
        for job in jobs:
            with suppress(UnknownJob):  # it was deleted meanwhile, of which the next look hears
                view = await self._service.view(job.id)
                card = await run_sync(self._cards.card, view)
                cards[job.id] = card.model_dump(mode="json")
        return cards

    def _put(self, packet: Packet) -> None:
        for reader in self._readers:
            reader.put(packet)


def _owners(jobs: Iterable[Job]) -> dict[str, str]:
    return {job.id: job.owner for job in jobs}
