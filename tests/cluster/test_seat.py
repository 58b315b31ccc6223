"""A GPU of the cluster, as the dispatcher serves it."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.cluster import seat as seats
from wan_mcp.cluster.messages import News, Start
from wan_mcp.cluster.remote_actor import RemoteActor
from wan_mcp.cluster.seat import Place, Seat, SeatOwner
from wan_mcp.errors import OutOfSpace
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.settings import Settings

PLACE = Place("cuda:0@box-1a2b3c", "1a2b3c", 1, 0)
NEWS = News(
    machine=None, loaded=LoadedModels(), helps=False, jobs=(), results={}, previews={}, deaths={}, timings=()
).model_dump_json()
LEASE_S = 0.4


class Handle:
    """Ray's handle of an actor that answers so many times, then no more."""

    def __init__(self, answers: int) -> None:
        self.call = self
        self._answers = iter([(number, NEWS) for number in range(answers)])

    def remote(self, *given: Any) -> Any:
        """Call it."""
        answer: Future[Any] = Future()
        with suppress(StopIteration):
            asyncio.get_running_loop().call_later(0.01, answer.set_result, next(self._answers))
        return SimpleNamespace(future=lambda: answer)


@pytest.fixture
def seat(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Seat]:
    database = Database(settings.database)
    store, rows, timings = JobStore(database), WorkerRegistry(database), Timings(database)
    owner = SeatOwner(
        settings=settings,
        home_id="h",
        store=store,
        rows=rows,
        timings=timings,
        claim=lambda seat: None,
        may_go_elsewhere=lambda job: False,
        devices=list,
        start=Start(home_id="h", device="", folder="", lease_s=LEASE_S, settings={}, runner="", version="1"),
    )
    made = Seat(PLACE, owner)
    monkeypatch.setattr(RemoteActor, "end", lambda self: None)  # Ray would start a cluster for it
    yield made
    database.close()


async def serve(seat: Seat, *events: Callable[[], bool]) -> None:
    """Serve a seat until one thing after the other holds."""
    serving = asyncio.create_task(seat.run())
    end = time.monotonic() + PATIENCE_S
    try:
        for holds in events:
            while not holds():
                assert time.monotonic() < end, f"is_free stays {seat.is_free}"
                await asyncio.sleep(0.01)
    finally:
        serving.cancel()
        await asyncio.wait([serving])


def test_an_actor_that_was_not_heard_for_its_lease_is_offered_no_job(
    seat: Seat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seats, "FENCE_S", 10 * PATIENCE_S)  # its lease is not over while the test lasts

    monkeypatch.setattr(seat, "_connect", lambda: Handle(1))
    asyncio.run(serve(seat, lambda: seat.is_free, lambda: not seat.is_free))


def test_a_full_disk_ends_no_actor(seat: Seat, monkeypatch: pytest.MonkeyPatch) -> None:
    written, started = [], []

    def full(*given: object) -> None:
        written.append(given)
        raise OutOfSpace("the disk is full")

    def connect() -> Handle:
        started.append(handle := Handle(1_000_000))
        return handle

    monkeypatch.setattr(WorkerRegistry, "heartbeat", full)
    monkeypatch.setattr(seat, "_connect", connect)
    asyncio.run(serve(seat, lambda: len(written) > 2))
    assert len(started) == 1
