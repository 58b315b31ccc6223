"""The supervisor of engine processes: one for each device of a front's settings, as many as the waiting jobs can use.

What is done about each engine is in `device_supervisor`. The rules by which jobs fail are in docs/decisions (only what
cannot run is failed), and so is which device gets an engine (every GPU serves one queue).
"""

import logging
import threading
from collections.abc import Iterable
from itertools import islice

from wan_mcp.errors import BadRequest
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.affinity import EngineInView, Timetable, choose
from wan_mcp.jobs.cluster_devices import cluster_serves, is_cluster_device, is_leased
from wan_mcp.jobs.device_supervisor import DeviceSupervisor
from wan_mcp.jobs.devices import AUTO, DeviceNames
from wan_mcp.jobs.engines_in_view import EnginesInView
from wan_mcp.jobs.fronts import Presence, settings_key
from wan_mcp.jobs.gpus_per_job import GpusPerJob
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.meetings import helpers
from wan_mcp.jobs.orphans import engines_on, living_devices
from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.waiting import LOOKED_AT, Waiting, computing, waiting_jobs
from wan_mcp.jobs.workers import WorkerRegistry, WorkerRow
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job, JobError
from wan_mcp.settings import Settings

__all__ = ["Supervisor"]


log = logging.getLogger(__name__)
# A longer time between two turns means that this process was stopped, or the machine was: then a full deadline begins.
STOPPED_S = 5.0


class Supervisor:
    """Keeps engines running while there is work. Each call of `supervise` is one turn."""

    def __init__(self, settings: Settings, store: JobStore, processes: Processes | None = None) -> None:
        self._settings = settings
        self._names = DeviceNames(store.database)
        self._store = store
        self._processes = processes or Processes()
        self._rows = WorkerRegistry(store.database, self._processes)
        self._other_devices = OtherDevices(settings.home, self._rows, self._processes)
        self._in_view = EnginesInView(settings, store, self._rows)
        self._gpus_per_job = GpusPerJob(settings, store, self._rows)
        self._started_to_share: dict[str, tuple[str, LoadedModels]] = {}
        """For which job, and which model, the engine of a device was started last without a job of its own."""
        self._turn = threading.Lock()
        self.settings_key = settings_key(settings)
        self._presence = Presence(settings.home, self.settings_key)
        self._supervised: dict[str, DeviceSupervisor] = {}
        of_first = settings if settings.device == AUTO else self._settings_for(self.device)
        self._first = self._supervisor_of(self.device, of_first)
        self._last_turn: float | None = None

    @property
    def devices(self) -> tuple[str, ...]:
        """The canonical names of the settings' devices, as far as an engine has recorded them."""
        return self._names.of(self._settings.device)

    @property
    def device(self) -> str:
        """The first of the devices."""
        return self.devices[0]

    @property
    def hindrance(self) -> str | None:
        """Why no engine can take jobs here at the moment, in a sentence; None if nothing is known to hinder one."""
        if self._cluster_serves():
            return None if self._cluster_devices() else "the cluster has no free GPU for wan-mcp at the moment"
        hindrances = [each.hindrance for each in self._own()]
        return None if None in hindrances else hindrances[0]

    def hindrance_of(self, device: str) -> str | None:
        """Return why the engine of one device can take no jobs at the moment; None if nothing is known."""
        return next((each.hindrance for each in self._own() if each.device == device), None)

    def engine(self, device: str) -> WorkerRow | None:
        """Return the living engine of a device, or None."""
        row = self._rows.get(device)
        return row if row is not None and row.lives(self._processes) else None

    def engines(self) -> list[WorkerRow]:
        """Return the living engines of the settings' devices; for estimates, because it does not check the locks."""
        return [row for device in self.devices if (row := self.engine(device)) is not None]

    def in_view(self) -> list[EngineInView]:
        """Return the engines that serve the queue, and those that would be started for it."""
        hindered = {each.device for each in self._own() if each.hindrance is not None}
        return self._in_view.of(device for device in self.all_devices() if device not in hindered)

    def timetable(self) -> Timetable:
        """Return what jobs take, by what has been measured so far."""
        return self._in_view.timetable()

    def waiting(self) -> list[Waiting]:
        """Return the queued jobs, with the devices that may run them, in the order of the queue."""
        return [*waiting_jobs(self._store, self.all_devices(), self._other_devices)]

    def all_devices(self) -> list[str]:
        """Return the settings' devices, and the others of this home that have an engine."""
        own = self.devices
        others = engines_on(self._settings.home, self._rows, self._processes)
        return [*own, *(device for device in others if device not in own)]

    def states(self) -> dict[str, str]:
        """Return what the engine of each device does, in a word: busy, idle, starting or off."""
        busy = self._busy()
        rows = {device: self.engine(device) for device in self.all_devices()}
        return {
            device: "off" if row is None else "busy" if device in busy else "idle" if row.ready else "starting"
            for device, row in rows.items()
        }

    def _busy(self) -> set[str]:
        """Return the devices whose engines run a job, or help another with one."""
        unfinished = self._store.unfinished()
        return {*computing(unfinished), *helpers(self._settings.home, unfinished)}

    def job_on(self, device: str) -> Job | None:
        """Return the job that runs on a device, or None."""
        running = (job for job in self._store.unfinished() if job.state is JobState.RUNNING)
        return next((job for job in running if job.device == device), None)

    def last_end(self, device: str) -> float | None:
        """Return when a job of a device ended last, in Unix time."""
        return self._store.last_end(device)

    def free(self) -> bool:
        """Ask the idle engines of the settings' devices to end, so that memory is free; return False if none runs.

        Raises:
            BadRequest: None of them is idle, or jobs wait.
        """
        with self._turn:
            engines = self.engines()
            helping = helpers(self._settings.home, self._store.unfinished())
            idle = [row for row in engines if not (self._store.has_running(row.device) or row.device in helping)]
            waiting = any(self._store.has_queued(device, self._other_devices) for device in self.devices)
            if waiting or (engines and not idle):
                raise BadRequest("the engine has jobs; wait for them, or cancel them, and free its memory then")
            identities = [row.identity for row in idle if row.identity is not None]
            for identity in identities:
                self._processes.ask_to_end(identity)
            return bool(identities)

    def machine(self) -> Machine | None:
        """Return the machine as an engine has recorded it; None if no engine has run since the machine booted.

        Of several devices, this is the one with the most memory; those of the cluster count.
        """
        devices = [*self.devices, *self._cluster_devices()]
        found = [machine for device in devices if (machine := self._rows.machine(device)) is not None]
        return max(found, key=lambda machine: machine.memory or 0, default=None)

    def machine_of(self, device: str) -> Machine | None:
        """Return one device as its engine has recorded it; see `machine`."""
        return self._rows.machine(device)

    def _cluster_serves(self) -> bool:
        return cluster_serves(self._settings.home, self._rows, self._processes)

    def _cluster_devices(self) -> list[str]:
        return [row.device for row in self._rows.living() if is_cluster_device(row.device)]

    def join(self) -> None:
        """Tell the other fronts of this home that this one runs; `supervise` does so too."""
        own = self._own()
        self._presence.join([each.device for each in own], [each.device for each in own if each.can_start])

    def leave(self) -> None:
        """Tell the other fronts that this one ends."""
        self._presence.leave()

    def supervise(self) -> None:
        """Requeue the jobs of dead engines, end hung ones, start some if jobs wait. Call it while jobs are unfinished.

        Raises:
            HomeUnusable: the home folder or the job table cannot be used.
        """
        with self._turn:
            self._notice_a_stop()
            for each in [*self._supervised.values()]:
                each.reap()
            own = self._own()
            self.join()
            for device in self._store.devices_at_work():
                if is_cluster_device(device) and is_leased(self._rows.last(device), self._processes):
                    continue  # its engine may still work, without a dispatcher
                if device not in {each.device for each in own}:  # of fronts with other settings, that may never return
                    self._supervisor_of(device, self._settings, keep=False).bury(self._living)
            dead = [each for each in own if each.bury(self._living)]
            for each in own:
                if each in dead:
                    each.watch_dead()
                else:
                    each.watch_running()
            self._start_what_is_needed(own, dead)
            self._fail_hopeless()

    def _own(self) -> list[DeviceSupervisor]:
        """Return the supervisors of the settings' devices.

        An engine that is started with auto runs on the first device, whatever that turns out to be.
        """
        first, *others = self.devices
        if self._first.device != first:
            self._supervised.pop(self._first.device, None)
            self._first.device = first
            self._supervised[first] = self._first
        return [self._first, *(self._supervisor_of(each, self._settings_for(each)) for each in others)]

    def _settings_for(self, device: str) -> Settings:
        return self._settings.model_copy(update={"device": device})

    def _supervisor_of(self, device: str, settings: Settings, *, keep: bool = True) -> DeviceSupervisor:
        if device in self._supervised:
            return self._supervised[device]
        found = DeviceSupervisor(device, settings, self._store, self._rows, self._processes)
        return self._supervised.setdefault(device, found) if keep else found  # estimates are made in other threads

    def _notice_a_stop(self) -> None:
        """Restart the deadlines of engines that are waited for, if this process or the machine was stopped."""
        now = self._processes.now()
        gap = 0.0 if self._last_turn is None else now - self._last_turn
        self._last_turn = now
        if gap > STOPPED_S:
            for each in [*self._supervised.values()]:
                each.forget_stop(gap)

    # Starts.

    def _start_what_is_needed(self, own: list[DeviceSupervisor], dead: list[DeviceSupervisor]) -> None:
        """Start an engine for each waiting job that would end later on those that run; fail what nobody can run.

        This looks after the locks: what a busy lock hid from others is seen here.
        """
        asleep = [each for each in dead if not each.is_starting]
        devices = [each.device for each in own]
        line = [*islice(waiting_jobs(self._store, devices, self._other_devices), LOOKED_AT)] if asleep else []
        if not line:
            if len(own) > 1 and asleep and not self._cluster_serves():
                self._start_to_share(own, asleep)
            return
        here = [each.device for each in own if each not in asleep and not each.is_taken]
        at_work, table = self._in_view.of(here), self._in_view.timetable()
        busy = self._busy()

        def take(engine: EngineInView, others: list[EngineInView]) -> bool:
            choice = choose(engine, others, line, table)
            if choice.taken is None:
                return False
            line.remove(choice.taken)
            loaded = engine.loaded.after(choice.taken.job.plan, table.precision)
            at_work[:] = [*others, EngineInView(engine.device, choice.ends_in_s, loaded)]
            return True

        for engine in [each for each in at_work if each.device not in busy]:
            take(engine, [each for each in at_work if each is not engine])
        for each in sorted(asleep, key=lambda each: not each.can_start):
            [engine] = self._in_view.of([each.device])
            if take(engine, [*at_work]):
                self._start_or_give_up(each, own, dead)

    def _start_to_share(self, own: list[DeviceSupervisor], asleep: list[DeviceSupervisor]) -> None:
        """Start engines while a job runs that has a GPU alone: they load its model, and join the next job of it.

        This fails no job, and starts an engine once for a job. One that ended with no model in memory found no room.
        """
        for job in self._gpus_per_job.to_get_ready_for():
            if job.device not in {each.device for each in own}:
                continue
            able = [each for each in own if not each.is_taken and self._gpus_per_job.may_join(job, each.device)]
            sleeping = [each for each in able if each in asleep]
            awake = 1 + len(able) - len(sleeping)
            missing = self._gpus_per_job.most(job, awake + len(sleeping)) - awake
            wanted = LoadedModels().after(job.plan, self._settings.precision)
            startable = [each for each in sleeping if each.can_start and not self._is_in_vain(each, job, wanted)]
            for each in startable[: max(0, missing)]:
                log.info("starting an engine for %s, to share jobs like %s", each.device, job.id)
                self._started_to_share[each.device] = job.id, wanted
                each.start()

    def _is_in_vain(self, each: DeviceSupervisor, job: Job, wanted: LoadedModels) -> bool:
        """Check whether an engine was started for this job before, or for this model and could not load it."""
        started_for, model = self._started_to_share.get(each.device, ("", None))
        last = self._rows.last(each.device)
        nothing = last is None or last.loaded.generator is None
        return started_for == job.id or (model == wanted and nothing)

    def _start_or_give_up(
        self, needed: DeviceSupervisor, own: list[DeviceSupervisor], dead: list[DeviceSupervisor]
    ) -> None:
        """Start an engine; or, if that cannot be done and nobody else could run them, fail the jobs of this front."""
        if needed.can_start:
            needed.start()
        elif any(each.can_start or each not in dead for each in own) or self._others_can_run(own):
            if needed.evidence_is_old:
                needed.start()  # whatever was missing may be there now
            else:  # the others are of no use to a job whose caller named these devices
                unable = [each.device for each in own if each in dead and not each.can_start]
                self._store.fail_queued(self._cannot_run(needed), self.settings_key, unable)
        elif needed.evidence_is_old:
            needed.doubt()
            needed.start()
        else:
            latest = max(own, key=lambda each: each.failed_at)
            # With no job failed, the evidence stays: the front whose job it is must see that nobody here can run it.
            if self._store.fail_queued(self._cannot_run(latest), self.settings_key):
                for each in own:
                    each.forgive()
        self.join()

    def _cannot_run(self, failed: DeviceSupervisor) -> JobError:
        own = "WAN_MCP_ENGINE_COMMAND is set: check that it starts an engine. " if self._settings.engine_command else ""
        asked = self._settings.device
        chosen = f"Device {asked} was asked for; omit it to use the one that is there. " if asked != AUTO else ""
        return JobError(
            code="engine_failed",
            message=f"The engine cannot start {failed.why_not} {own}{chosen}"
            f"'wan-mcp doctor' checks the installation; the log is {self._settings.log_file}.",
        )

    def _others_can_run(self, own: Iterable[DeviceSupervisor]) -> bool:
        """Check whether an engine lives on another device, or a front runs that may start one."""
        if any(front.startable and front.settings != self.settings_key for front in self._presence.others()):
            return True
        devices = {each.device for each in own}
        return any(device not in devices for device in engines_on(self._settings.home, self._rows, self._processes))

    # What is left.

    def _living(self) -> list[str]:
        others = living_devices(self._settings.home, self._rows, self._processes, self._presence.others())
        return [*(each.device for each in self._own() if each.can_start), *others]

    def _fail_hopeless(self) -> None:
        if self._store.has_evidence():
            for job in self._store.fail_hopeless(self._living()):
                log.warning("job %s is failed: no engine that could run it is left", job.id)
