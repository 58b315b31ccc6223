"""One GPU of the cluster as the dispatcher serves it: its actor, its engine's row, and the jobs that it runs.

The row and the lock of its device make it an engine like any other to the fronts of this home.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from filelock import BaseFileLock
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from wan_mcp.cluster.actor import EngineActor
from wan_mcp.cluster.followed_job import FollowedJob
from wan_mcp.cluster.messages import News, Order, Start
from wan_mcp.cluster.pieces import bare, files_for
from wan_mcp.cluster.remote_actor import RemoteActor, Unheard, Unreadable
from wan_mcp.errors import HomeUnusable, LeaseLost, OutOfSpace
from wan_mcp.jobs.cluster_devices import is_leased
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job, JobError
from wan_mcp.settings import Settings

__all__ = ["NAMESPACE", "Place", "Seat", "SeatOwner"]

log = logging.getLogger(__name__)

NAMESPACE = "wan-mcp"
LOOKS_IN_A_LEASE = 8
"""How often an actor is looked at while nothing changes, so that one lost look costs no lease."""
FENCE_S = 5.0
"""How much later than an actor's lease its jobs are free: by then its process has ended."""
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0
PLACING_S = 5.0
"""How often it is checked, while Ray places an actor, what waits for it."""
LEASE_LOOK_S = 0.2
LEAVE_PATIENCE_S = 15.0
"""How long an actor may take to end when this process ends."""
CALLS_AT_ONCE = 8


@dataclass(frozen=True)
class Place:
    """Where an actor runs."""

    device: str
    """Its name in the job table."""
    node_id: str
    gpus: int
    cpus: float
    """What the actor reserves of its node."""


@dataclass(frozen=True)
class SeatOwner:
    """What all seats share."""

    settings: Settings
    home_id: str
    store: JobStore
    rows: WorkerRegistry
    timings: Timings
    claim: Callable[["Seat"], Job | None]
    """Claims the next job for the engine of a seat, if there is one for it."""
    may_go_elsewhere: Callable[[Job], bool]
    devices: Callable[[], list[str]]
    """All devices that have an engine or may get one."""
    start: Start
    """What each actor starts with, except its device."""


class Seat:
    """A GPU and its actor, one after the other."""

    def __init__(self, place: Place, owner: SeatOwner) -> None:
        """Make the seat; `run` serves it."""
        self.place, self._owner = place, owner
        self.device = place.device
        self.loaded = LoadedModels()
        self.serves = False
        """Whether it has an actor that answers."""
        self._helps = False
        self._actor: RemoteActor | None = None
        self._jobs: dict[str, FollowedJob] = {}
        self._claims = asyncio.Lock()
        self._lock: BaseFileLock | None = None
        self._row_until = 0.0

    @property
    def is_free(self) -> bool:
        """Whether its engine can take a job."""
        return self.serves and not self._helps and not any(job.keeps_busy for job in self._jobs.values())

    @property
    def coming(self) -> set[str]:
        """The models that its engine is downloading."""
        jobs = self._jobs.values()
        return {job.job.plan.model for job in jobs if not (job.keeps_busy or job.there.state.final)}

    async def run(self) -> None:
        """Serve the seat until this is cancelled, with one actor after the other; then `close` or `retire` it."""
        pause = FIRST_PAUSE_S
        while True:
            began = time.monotonic()
            try:
                await self._serve_one()
            except RayActorError as error:
                log.warning("the actor of %s has died: %s", self.device, _last_line(error))
            except Unheard:
                log.warning("%s was not heard for as long as its lease", self.device)
                self.end_actor()
                self._withdraw()  # no job is claimed for it while its lease goes on
                await self._lease_over()
                self._settle({})
            except Exception:
                log.exception("%s cannot be served for now", self.device)
                self.end_actor()
            self._withdraw()
            if time.monotonic() - began > MAX_PAUSE_S:
                pause = FIRST_PAUSE_S
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE_S, 2 * pause)

    async def offer(self) -> None:
        """Take the next job, if there is one for this engine."""
        async with self._claims:
            while self.is_free and self._actor is not None and (job := self._owner.claim(self)) is not None:
                await self._hand(job, self._actor)

    async def cancel(self, ids: set[str]) -> None:
        """Stop those of these jobs that run here."""
        for job_id in ids & set(self._jobs):
            await self._jobs[job_id].cancel()

    async def retire(self, *, at_once: bool) -> None:
        """Requeue what ran here, because its machine is gone.

        A machine that cannot be reached may still work until its lease is over; `at_once` says that it does not.
        """
        self._withdraw()
        if not at_once:
            await self._lease_over()
        self._settle({})

    async def close(self) -> None:
        """End the actor, and return its jobs to the queue.

        If it cannot be reached, it may still work: then its jobs are free when its lease is over.
        """
        has_ended = await self._has_left()
        self.end_actor()
        jobs = [each.job for each in self._jobs.values()]
        self._withdraw()
        for job in jobs if has_ended else ():
            self._release(job)

    async def _has_left(self) -> bool:
        """Ask the actor to end its process, and check that it is gone.

        That Ray takes it for dead is not enough: it does so, too, when the machine cannot be reached.
        """
        if self._actor is None:
            return False
        leaves = False
        try:
            async with asyncio.timeout(LEAVE_PATIENCE_S):
                await self._actor.call("leave")
                leaves = True
                while True:
                    await self._actor.call("look", LEASE_LOOK_S, [])
        except RayActorError:
            return leaves
        except Exception as error:
            log.warning("%s does not say that it ends: %s", self.device, _last_line(error))
            return False

    # One actor.

    async def _serve_one(self) -> None:
        self._actor = actor = RemoteActor(self._connect(), self._owner.start.lease_s)
        news = await self._first_news(actor)
        await self._open(actor, news)
        patience_s = self._owner.start.lease_s / LOOKS_IN_A_LEASE
        previews = PreviewStore(self._owner.settings.home)
        while True:
            await self._note(news)
            await self.offer()
            wanted = [job_id for job_id in self._jobs if previews.wanted(job_id)]
            news = News.model_validate_json(await actor.call("look", patience_s, wanted))

    def _connect(self) -> Any:
        """Return the actor of this seat, which may be there from an earlier dispatcher, or start one."""
        start = self._owner.start.model_copy(update={"device": self.device})
        options = {
            "name": f"{self._owner.home_id}/{self.device}",
            "namespace": NAMESPACE,
            "lifetime": "detached",
            "get_if_exists": True,
            "num_gpus": self.place.gpus,
            "num_cpus": self.place.cpus,
            "max_restarts": 0,
            "max_concurrency": CALLS_AT_ONCE,
            "scheduling_strategy": NodeAffinitySchedulingStrategy(self.place.node_id, soft=False),
        }
        return ray.remote(EngineActor).options(**options).remote(start.model_dump_json())

    async def _first_news(self, actor: RemoteActor) -> News:
        """Return the first news of an actor; until it is placed and has started, it says nothing.

        What ran here waits for it, because it knows how the actor before it died; but not for ever.

        Raises:
            RayActorError: it has died.
        """
        while True:
            try:
                async with asyncio.timeout(PLACING_S):
                    return News.model_validate_json(await actor.call("look", 0.0, []))
            except (TimeoutError, Unheard):
                actor.renew()  # its lease has not begun
                if self._lease_is_over() and self._running_here():
                    self._settle({})

    async def _lease_over(self) -> None:
        while not self._lease_is_over():  # noqa: ASYNC110  # a lease is a time
            await asyncio.sleep(LEASE_LOOK_S)

    def _lease_is_over(self) -> bool:
        return not is_leased(self._owner.rows.last(self.device), Processes())

    async def _open(self, actor: RemoteActor, news: News) -> None:
        """Become an engine of this home, with the jobs that the actor already has."""
        owner = self._owner
        self._lock = engine_lock(owner.settings.home, self.device)
        self._lock.acquire(timeout=FENCE_S)
        owner.rows.register(self.device, self._silent_until())
        self._row_until = 0.0
        there = {(job.id, job.attempt) for job in news.jobs}
        unknown = [job.id for job in news.jobs]
        self._jobs = {}
        for job in self._running_here():
            if (job.id, job.attempt) in there:
                self._follow(job, actor)
                unknown.remove(job.id)
        self._settle(news.deaths)
        if unknown:  # others have them by now
            await actor.call("forget", unknown)
        self.serves = True
        log.info("%s serves", self.device)

    def _running_here(self) -> list[Job]:
        running = (job for job in self._owner.store.unfinished() if job.state is JobState.RUNNING)
        return [job for job in running if job.device == self.device]

    def _settle(self, deaths: dict[str, Death]) -> None:
        """Requeue or fail the jobs of this device that no actor runs; `deaths` says how their engines died."""
        owner = self._owner
        for lost in self._running_here():
            if lost.id in self._jobs:
                continue
            death = partial(_known, deaths.get(lost.id, Death.KILLED))
            for job in owner.store.requeue_orphans(self.device, death, owner.devices(), only=lost.id):
                log.warning("job %s was running on %s, which died; it is now %s", job.id, self.device, job.state)

    def _follow(self, job: Job, actor: RemoteActor) -> None:
        owner = self._owner
        self._jobs[job.id] = FollowedJob(job, actor, owner.store, owner.settings, owner.may_go_elsewhere, self._ended)

    def _ended(self, job_id: str) -> None:
        self._jobs.pop(job_id, None)

    async def _note(self, news: News) -> None:
        """Write down what an actor says, and follow its jobs."""
        self._helps = news.helps
        try:
            self._write_down(news)
        except (OutOfSpace, HomeUnusable) as error:  # no reason to end the actor: the next news are written, too
            log.error("what %s says cannot be written: %s", self.device, error)
        for job in news.jobs:
            if job.id in self._jobs:
                self._jobs[job.id].note(job, news.results)
                if (made := news.previews.get(job.id)) is not None:
                    await self._jobs[job.id].note_preview(made)

    def _write_down(self, news: News) -> None:
        owner = self._owner
        if news.machine is not None and news.machine != owner.rows.machine(self.device):
            owner.rows.record_machine(self.device, news.machine)
        for measured in news.timings:
            owner.timings.adopt(self.device, measured)
        if news.loaded != self.loaded or time.monotonic() > self._row_until:
            self.loaded = news.loaded
            owner.rows.heartbeat(self.device, self._silent_until(), news.loaded)
            self._row_until = time.monotonic() + owner.start.lease_s / LOOKS_IN_A_LEASE

    def _silent_until(self) -> float:
        return time.monotonic() + (1 + 1 / LOOKS_IN_A_LEASE) * self._owner.start.lease_s + FENCE_S

    async def _hand(self, job: Job, actor: RemoteActor) -> None:
        """Give a claimed job to the actor, with the files that it lacks."""
        self._follow(job, actor)
        try:
            await self._send(job, actor)
        except Unreadable as error:
            why = f"a file of this job cannot be read: {error}"
            self._owner.store.finish(job, JobState.FAILED, error=JobError(code="input_missing", message=why))
            del self._jobs[job.id]

    async def _send(self, job: Job, actor: RemoteActor) -> None:
        """Send a job with its files.

        Raises:
            Unreadable: a file cannot be read.
            Unheard, RayError: as `RemoteActor.call`.
        """
        try:
            plan, sources, files = files_for(job.plan, self._owner.settings.home)
        except OSError as error:
            raise Unreadable(f"{error.strerror}: {error.filename}") from error
        order = Order(job=bare(job, plan), files=files).model_dump_json()
        announced = {file.place: file for file in files}
        while missing := await actor.call("take", order):
            for place in missing:
                file, offset = announced[place], 0
                while offset < max(1, file.bytes):
                    offset += await actor.write(file, offset, sources[place]) or 1

    # Its end.

    def _release(self, job: Job) -> None:
        try:
            self._owner.store.release(job)
        except LeaseLost:
            log.info("job %s has ended", job.id)

    def end_actor(self) -> None:
        """End the actor; the seat gets another one."""
        if self._actor is not None:
            try:
                self._actor.end()
            except Exception as error:
                log.warning("the actor of %s was not ended: %s", self.device, error)

    def _withdraw(self) -> None:
        """Be no engine of this home any more. Its jobs stay as they are until it is known what became of them."""
        self.serves, self._actor = False, None
        for job in self._jobs.values():
            job.stop()
        self._jobs = {}
        if self._lock is not None:
            self._owner.rows.unregister(self.device)
            self._lock.release()
            self._lock = None


def _known(death: Death, engine: str | None) -> Death:
    return death


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
