"""The dispatcher: the one process that claims jobs from the table of this home for the GPUs of a Ray cluster.

It joins a cluster, puts an actor on each GPU of each node, and has a seat for each. Nothing that it knows is lost with
it: the table says which jobs run where, and the next dispatcher finds the actors by their names.
"""

import asyncio
import logging
import os
import secrets
import signal
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from filelock import Timeout
from ray.exceptions import RayActorError

from wan_mcp import __version__
from wan_mcp.cluster.messages import Start
from wan_mcp.cluster.nodes import Node, gone_devices, listed_nodes
from wan_mcp.cluster.remote_actor import Unheard
from wan_mcp.cluster.seat import NAMESPACE, Place, Seat, SeatOwner
from wan_mcp.engine.worker.claims import Claims
from wan_mcp.errors import BadRequest
from wan_mcp.files import atomic_file
from wan_mcp.jobs.affinity import EngineInView
from wan_mcp.jobs.cluster_devices import cluster_device, dispatcher_lock, is_cluster_device, is_leased
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.engines_in_view import EnginesInView
from wan_mcp.jobs.evidence import Death, Evidence
from wan_mcp.jobs.fronts import Presence
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.orphans import living_devices
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.waiting import computing
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.permissions import make_folder
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

__all__ = ["ClusterOptions", "Dispatcher", "run_cluster"]

log = logging.getLogger(__name__)

NODES_S = 1.0
"""How often the nodes of the cluster are listed."""
COMMITS_S = 0.01
"""How often the table is checked for commits."""
HELD_S = 0.5
"""How often a job that was left to another engine is looked at again."""
OF_ENGINES = (
    "precision",
    "attention",
    "compile",
    "threads",
    "auto_download",
    "gpus_per_job",
    "engine_idle_s",
    "step_deadline_s",
    "load_deadline_s",
    "log_level",
)
"""The settings of the dispatcher that its actors have, too."""
LOCK_PATIENCE_S = 3.0
"""Fronts take the dispatcher's lock for a moment to see whether it is free."""
RUNNER = "wan_mcp.engine.runner:build_runner"
"""What builds the runner of an actor's engine, as module:function."""


@dataclass(frozen=True)
class ClusterOptions:
    """How a cluster is used."""

    address: str
    """As Ray takes it: auto, HOST:PORT or ray://HOST:PORT."""
    cpu_actors: int = 0
    """Actors without a GPU on each node, in place of those on its GPUs."""
    lease_s: float = 60.0
    """Seconds for which an actor works on without hearing from here."""
    folder: str = ""
    """The folder of the actors' homes on their machines; empty for one below the home of each machine."""


def run_cluster(settings: Settings, options: ClusterOptions) -> None:
    """Serve the queue of this home with the GPUs of a Ray cluster, until a signal comes.

    Raises:
        BadRequest: another process does so, or the cluster cannot be joined.
        HomeUnusable: the home folder or the job table cannot be used.
    """
    lock = dispatcher_lock(settings.home)
    try:
        lock.acquire(timeout=LOCK_PATIENCE_S)
    except Timeout:
        raise BadRequest(f"another 'wan-mcp cluster' serves {settings.home} already") from None
    database = Database(settings.database)
    try:
        _join(options.address)
        asyncio.run(Dispatcher(settings, options, database).run())
    finally:
        ray.shutdown()
        database.close()
        lock.release()


def _join(address: str) -> None:
    """Join a cluster.

    Raises:
        BadRequest: there is none at this address, or it cannot be joined.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would send statistics to its makers
    try:
        ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise BadRequest(
            f"the Ray cluster at '{address}' cannot be joined: {first_line(error)}. Start one with 'ray start --head', "
            "or name its address with --address"
        ) from error


class Dispatcher:
    """The dispatcher."""

    def __init__(self, settings: Settings, options: ClusterOptions, database: Database) -> None:
        """Serve the table in `database`. Ray must be initialized."""
        self._settings, self._options = settings, options
        self._store, self._rows = JobStore(database), WorkerRegistry(database)
        self._timings = Timings(database)
        self._in_view = _SeatsInView(settings, self._store, self._rows, self._engines)
        self._presence = Presence(settings.home, "")
        self._seats: dict[str, Seat] = {}
        self._claims: dict[str, Claims] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._offers: set[asyncio.Task[None]] = set()
        self._owner = SeatOwner(
            settings=settings,
            home_id=_home_id(settings.home),
            store=self._store,
            rows=self._rows,
            timings=self._timings,
            claim=self._claim,
            may_go_elsewhere=self._may_go_elsewhere,
            devices=self._devices,
            start=Start(
                home_id=_home_id(settings.home),
                device="",
                folder=options.folder,
                lease_s=options.lease_s,
                settings={name: getattr(settings, name) for name in OF_ENGINES},
                runner=RUNNER,
                version=__version__,
            ),
        )

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT; then the actors end, and their jobs return to the queue."""
        leaving = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, leaving.set)
        work = [asyncio.create_task(each()) for each in (self._watch_nodes, self._watch_table)]
        ends = asyncio.create_task(leaving.wait())
        try:
            done, _ = await asyncio.wait([*work, ends], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            tasks = [*work, ends, *self._tasks.values(), *self._offers]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            closed = await asyncio.gather(*(seat.close() for seat in self._seats.values()), return_exceptions=True)
            for device, failure in zip(self._seats, closed, strict=True):
                if failure is not None:
                    log.error("%s did not end in good order: %s", device, failure)

    # Nodes come and go.

    async def _watch_nodes(self) -> None:
        while True:
            nodes = await asyncio.to_thread(listed_nodes)
            for place in (place for node in nodes if node.lives for place in self._places(node)):
                if place.device not in self._seats:
                    self._seat(place)
            node_ids = {device: seat.place.node_id for device, seat in self._seats.items()}
            for device, ended in gone_devices(node_ids, nodes).items():
                self._retire(device, at_once=ended)
            self._settle_what_nobody_has()
            await asyncio.sleep(NODES_S)

    def _places(self, node: Node) -> list[Place]:
        kind, count = ("cpu", self._options.cpu_actors) if self._options.cpu_actors else ("cuda", node.gpus)
        gpus, cpus = (0, 1) if kind == "cpu" else (1, 0)
        names = (cluster_device(kind, number, node.host, node.id) for number in range(count))
        return [Place(device, node.id, gpus, cpus) for device in names]

    def _seat(self, place: Place) -> None:
        log.info("%s joins", place.device)
        seat = self._seats[place.device] = Seat(place, self._owner)
        settings = self._settings.model_copy(update={"device": place.device})
        self._claims[place.device] = Claims(settings, self._store, self._rows, engines=self._in_view)
        self._tasks[place.device] = asyncio.create_task(seat.run())

    def _retire(self, device: str, *, at_once: bool) -> None:
        """Serve a seat no more whose node is dead."""
        log.warning("the machine of %s is gone", device)
        seat, task = self._seats.pop(device), self._tasks.pop(device)
        del self._claims[device]
        task.cancel()
        ending = asyncio.create_task(seat.retire(at_once=at_once))
        self._offers.add(ending)
        ending.add_done_callback(self._offers.discard)

    def _settle_what_nobody_has(self) -> None:
        """Requeue what ran on devices of an earlier dispatcher that are gone, when nothing can run there any more."""
        for device in self._store.devices_at_work():
            if not is_cluster_device(device) or device in self._seats:
                continue
            if not is_leased(self._rows.last(device), Processes()):
                self._store.requeue_orphans(device, lambda engine: Death.KILLED, self._devices())

    # Jobs are handed out.

    async def _watch_table(self) -> None:
        """Offer jobs to free engines, and stop those that are to be cancelled, whenever the table changes."""
        watch = self._store.database.watch()
        looked = 0.0
        try:
            while True:
                if watch.changed() or time.monotonic() - looked > HELD_S:
                    looked = time.monotonic()
                    free = [seat for seat in self._seats.values() if seat.is_free]
                    if free and self._store.has_queued():
                        for seat in free:
                            self._do(seat, seat.offer())
                    if stopping := {job.id for job in self._store.unfinished() if job.cancel_requested}:
                        for seat in self._seats.values():
                            self._do(seat, seat.cancel(stopping))
                await asyncio.sleep(COMMITS_S)
        finally:
            watch.close()

    def _do(self, seat: Seat, work: Coroutine[Any, Any, None]) -> None:
        """Do something with a seat in a separate task; replace its actor if that fails."""

        async def guarded() -> None:
            try:
                await work
            except (RayActorError, Unheard):
                pass  # the seat's own task notices it as well
            except Exception:
                log.exception("%s does not do what it should", seat.device)
                seat.end_actor()

        task = asyncio.create_task(guarded())
        self._offers.add(task)
        task.add_done_callback(self._offers.discard)

    def _claim(self, seat: Seat) -> Job | None:
        return self._claims[seat.device].next(seat.loaded, seat.coming)

    def _may_go_elsewhere(self, job: Job) -> bool:
        """Check whether another device may take a job that is too large for the one on which it runs."""
        [evidence] = [each.evidence for each in self._store.line() if each.job.id == job.id] or [Evidence()]
        return any(not evidence.bars(device) for device in self._devices() if device != job.device)

    def _devices(self) -> list[str]:
        others = living_devices(self._settings.home, self._rows, Processes(), self._presence.others())
        return [*others, *self._seats]

    def _engines(self) -> dict[str, LoadedModels]:
        return {seat.device: seat.loaded for seat in self._seats.values() if seat.serves}


class _SeatsInView(EnginesInView):
    """The engines of the cluster, without a look at their processes: the dispatcher knows which live."""

    def __init__(
        self, settings: Settings, store: JobStore, rows: WorkerRegistry, engines: Callable[[], dict[str, LoadedModels]]
    ) -> None:
        super().__init__(settings, store, rows)
        self._jobs, self._engines = store, engines

    def living_but(self, device: str) -> list[EngineInView]:
        """Return the engines of other devices."""
        at_work = computing(self._jobs.unfinished())
        return [
            self.view(each, loaded, at_work.get(each)) for each, loaded in self._engines().items() if each != device
        ]


def _home_id(home: Path) -> str:
    """Return a name for this home that no other has; actors are named for it."""
    file = home / "cluster" / "id"
    make_folder(file.parent)
    if not file.exists():
        with atomic_file(file, private=True) as temporary:
            temporary.write_text(secrets.token_hex(8), encoding="ascii")
    return file.read_text(encoding="ascii").strip()
