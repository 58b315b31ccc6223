"""The changes of all jobs, for every open page: read from the table once, encoded once, sent to each.

Nothing is read while no page is open, and nothing that has not changed. A page that reads too slowly gets a fresh
snapshot instead of all that it has missed.
"""

import json
import logging
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import anyio
from anyio.to_thread import run_sync

from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.web.answers import without_paths
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService

__all__ = ["Feed", "Packet"]

log = logging.getLogger(__name__)

PAUSE_S = 0.15  # between two looks: the reports of a fast job are joined
PATIENCE_S = 20.0  # of one look without a change
RETRY_S = 1.0
LINE_ENDS = {ord(each): f"\\u{ord(each):04x}" for each in "\x85\u2028\u2029"}
"""Of Unicode, which JSON does not escape and which some clients take for the end of a line."""
BACKLOG = 64  # packets that wait for one page
ACTIVE = (JobState.QUEUED, JobState.RUNNING)


class Packet:
    """One event of the stream, encoded once for near pages and once for those elsewhere."""

    def __init__(self, event: str, data: object, cursor: int | None, service: JobService) -> None:
        self._event, self._data, self._cursor, self._home = event, data, cursor, service.settings.home
        self._encoded: dict[bool, bytes] = {}

    def encoded(self, *, near: bool) -> bytes:
        """Return the bytes for a page."""
        if near not in self._encoded:
            data = self._data if near else without_paths(self._data, self._home)
            head = "" if self._cursor is None else f"id: {self._cursor}\n"
            words = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
            words = words.translate(LINE_ENDS)
            self._encoded[near] = f"{head}event: {self._event}\ndata: {words}\n\n".encode()
        return self._encoded[near]


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

    def publish(self, event: str, data: object) -> None:
        """Send an event that is not about jobs to every open page."""
        if self._readers:
            self._put(Packet(event, data, None, self._service))

    async def subscribe(self, since: int | None, *, near: bool) -> AsyncIterator[bytes]:
        """Yield the events of a page that has seen all until `since`; without it, a snapshot comes first."""
        reader = _Reader()
        self._readers.add(reader)
        self._wanted.set()
        try:
            async for packet in self._missed(since):
                yield packet.encoded(near=near)
            while not self._closed:
                while reader.packets and not self._closed:
                    yield reader.packets.popleft().encoded(near=near)
                if reader.behind:
                    reader.behind = False
                    yield (await self._snapshot()).encoded(near=near)
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
            yield await self._changed(changes.jobs.jobs, changes.deleted, changes.cursor)
            since = changes.cursor
            if not changes.more:
                return
        yield await self._snapshot()

    async def _snapshot(self) -> Packet:
        cursor = await self._service.cursor()  # before the look, so that no change between is missed
        active = (await self._service.find(states=ACTIVE, limit=1000)).jobs
        cards = await self._encoded(reversed(active))
        return Packet("snapshot", {"jobs": list(cards.values()), "cursor": cursor}, cursor, self._service)

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
                self._put(await self._changed(changes.jobs.jobs, changes.deleted, changes.cursor))
                await self._move_up(changes.cursor)
            self._cursor = changes.cursor
            if not changes.more:
                await anyio.sleep(PAUSE_S)

    async def _changed(self, jobs: Iterable[Job], deleted: list[str], cursor: int) -> Packet:
        cards = await self._encoded(jobs)
        return Packet("jobs", {"jobs": list(cards.values()), "deleted": deleted}, cursor, self._service)

    async def _move_up(self, cursor: int) -> None:
        """Send the waiting jobs whose place or time has changed with that of another."""
        queued = (await self._service.find(states=(JobState.QUEUED,), limit=1000)).jobs
        cards = await self._encoded(reversed(queued))
        moved = [card for job_id, card in cards.items() if self._sent.get(job_id, card) != card]
        self._sent = dict(cards)
        if moved:
            self._put(Packet("jobs", {"jobs": moved, "deleted": []}, cursor, self._service))

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
