"""The supervisor of engine processes: start one, notice its death, end one that hangs.

An engine holds the lock file of its device for as long as it runs, so a process that can take the lock
knows that no engine runs. The rules by which jobs fail are in docs/decisions (only what cannot run is failed).
"""

import logging
import shlex
import sys
import threading
import time
from dataclasses import dataclass
from functools import partial

from filelock import Timeout

from wan_mcp.child_environment import child_environment, temporary_in
from wan_mcp.errors import BadRequest, HomeUnusable, OutOfSpace
from wan_mcp.files import writing_to
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import AUTO, DeviceNames
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fatal_signals import FatalSignals
from wan_mcp.jobs.fronts import Presence, settings_key
from wan_mcp.jobs.in_the_way import InTheWay
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.orphans import death_in, engines_on, living_devices, settle_orphans
from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.processes import Processes, Started
from wan_mcp.jobs.starts import StartLog, is_passing, is_shortage, judge
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import Ended, WorkerRegistry, WorkerRow
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job, JobError
from wan_mcp.settings import Settings

__all__ = ["Supervisor"]


log = logging.getLogger(__name__)
STARTS_ALLOWED = 2
RETRY_S = 30.0  # evidence that engines cannot start is no older than this when it is used
# Between the starts of engines that were killed: they may be killed because the machine has too little memory.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 8.0
# A deadline that has passed is believed when it stays passed for this long while we look.
OVERDUE_GRACE_S = 3.0
# A longer time between two turns means that this process was stopped, or the machine was: then a full deadline begins.
STOPPED_S = 5.0


@dataclass
class _Start:
    """An engine that was started here and may not be ready yet."""

    process: Started
    identity: str | None
    at: float
    output: StartLog
    late: bool = False


class Supervisor:
    """Keeps an engine running while there is work. Each call of `supervise` is one turn."""

    def __init__(self, settings: Settings, store: JobStore, processes: Processes | None = None) -> None:
        self._settings = settings
        self._names = DeviceNames(store.database)
        self._store = store
        self._processes = processes or Processes()
        self._rows = WorkerRegistry(store.database, self._processes)
        self._other_devices = OtherDevices(settings.home, self._rows, self._processes)
        self._turn = threading.Lock()
        self.settings_key = settings_key(settings)
        self._presence = Presence(settings.home, self.settings_key)
        self._in_the_way = InTheWay(settings.home, self._rows, self._processes)
        self._start_under_way: _Start | None = None
        self._exits: dict[str, int] = {}  # exit codes by the identities of engines
        self._why_not: list[str] = []  # of the starts that failed one after the other
        self._failed_at = 0.0
        self._killed_starts = 0
        self._short_of: str | None = None  # what the last start that failed was short of, in its words
        self._next_start = 0.0
        self._last_turn: float | None = None
        self._overdue_since: float | None = None
        self._patient_until = 0.0

    @property
    def device(self) -> str:
        """The canonical name of the settings' device, as far as an engine has recorded it."""
        return self._names.of(self._settings.device)

    @property
    def hindrance(self) -> str | None:
        """Why no engine can take jobs here at the moment, in a sentence; None if nothing is known to hinder one."""
        if (obstacle := self._in_the_way.found) is not None:
            return obstacle
        if self._cannot_start:
            return f"no engine of this server can start: {self._why_not[-1]}"
        if self._short_of is not None:
            return f"no engine can start for now: {self._short_of}"
        if self._killed_starts > 1:
            return f"the engine was killed {self._killed_starts} times while it started (too little memory?)"
        return None

    def loaded(self) -> LoadedModels | None:
        """Return the loaded models of a ready engine, or None; for estimates, because it does not check the lock."""
        row = self._rows.get(self.device)
        return row.loaded if row is not None and row.ready and row.lives(self._processes) else None

    def engine(self) -> WorkerRow | None:
        """Return the living engine of the settings' device, or None."""
        row = self._rows.get(self.device)
        return row if row is not None and row.lives(self._processes) else None

    def job_on(self, device: str) -> Job | None:
        """Return the job that runs on a device, or None."""
        running = (job for job in self._store.unfinished() if job.state is JobState.RUNNING)
        return next((job for job in running if job.device == device), None)

    def last_end(self, device: str) -> float | None:
        """Return when a job of a device ended last, in Unix time."""
        return self._store.last_end(device)

    def free(self) -> bool:
        """Ask the engine of the settings' device to end, so that its memory is free; return False if none runs.

        Raises:
            BadRequest: It is at work.
        """
        with self._turn:
            if self._store.has_running(self.device) or self._store.has_queued(self.device, self._other_devices):
                raise BadRequest("the engine has jobs; wait for them, or cancel them, and free its memory then")
            if (row := self.engine()) is None or row.identity is None:
                return False
            self._processes.ask_to_end(row.identity)
            return True

    def machine(self) -> Machine | None:
        """Return the machine as an engine has recorded it; None if no engine has run since the machine booted."""
        return self._rows.machine(self.device)

    def join(self) -> None:
        """Tell the other fronts of this home that this one runs; `supervise` does so too."""
        self._presence.join(self.device, can_start=not self._cannot_start)

    def leave(self) -> None:
        """Tell the other fronts that this one ends."""
        self._presence.leave()

    def supervise(self) -> None:
        """Requeue the jobs of dead engines, end a hung one, start one if jobs wait. Call it while jobs are unfinished.

        Raises:
            HomeUnusable: the home folder or the job table cannot be used.
        """
        with self._turn:
            self._notice_a_stop()
            self._reap()
            own = self.device
            self.join()
            for device in self._store.devices_at_work():
                if device != own:  # of fronts with other settings, that may never come back
                    self._bury(device)
            if not self._bury_if_dead(own):
                self._in_the_way.look(own)
                self._end_if_overdue(own)
            else:
                self._in_the_way.clear()
                # After the lock: what a busy lock hid from others is seen here.
                if self._store.has_queued(own, self._other_devices):
                    self._start_or_give_up()
            self._fail_hopeless()

    def _notice_a_stop(self) -> None:
        """Restart the deadline of an engine that is waited for, if this process or the machine was stopped."""
        now = self._processes.now()
        gap = 0.0 if self._last_turn is None else now - self._last_turn
        self._last_turn = now
        if gap > STOPPED_S:
            self._overdue_since = None
            row = self._rows.get(self.device)
            self._patient_until = now + (row.silence_s if row is not None else 0.0)
            if self._start_under_way is not None:
                self._start_under_way.at += gap

    # Starts.

    @property
    def _cannot_start(self) -> bool:
        return len(self._why_not) >= STARTS_ALLOWED

    def _reap(self) -> None:
        start = self._start_under_way
        if start is None or (code := start.process.poll()) is None:
            return
        self._start_under_way = None
        pid, now = start.process.pid, self._processes.now()
        self._exits = {start.identity or "": code}
        row = self._rows.of(start.identity) if start.identity else None
        verdict = judge(
            code,
            now - start.at,
            was_ready=row.ready if row is not None else self._rows.was_ready(pid),
            ended=row.ended if row is not None else None,
            late=start.late,
        )
        last_words = start.output.close()
        if verdict.works:
            self._why_not, self._killed_starts, self._short_of = [], 0, None
        elif verdict.why_not is not None and is_shortage(last_words):
            log.error("engine %d could not start for now: %s", pid, last_words)
            self._pause(last_words)
        elif verdict.why_not is not None:
            log.error("engine %d failed to start %s; see %s", pid, verdict.why_not, self._settings.log_file)
            self._count_failed_start(f"{verdict.why_not}: {last_words}")
        elif code != 0:  # killed by others
            self._pause()

    def _pause(self, short_of: str | None = None) -> None:
        """Wait before the next start: the last one was not the engine's fault, but may be repeated at once."""
        self._short_of = short_of
        pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**self._killed_starts)
        self._killed_starts += 1
        self._next_start = self._processes.now() + pause

    def _count_failed_start(self, why: str) -> None:
        self._why_not = [*self._why_not, why][-STARTS_ALLOWED:]
        self._failed_at = self._processes.now()
        self.join()

    def _start_or_give_up(self) -> None:
        """Start an engine; or, if that cannot be done and nobody else could, fail the jobs of this front."""
        if not self._cannot_start:
            self._start()
            return
        old = self._processes.now() - self._failed_at >= RETRY_S
        if self._others_can_run(self.device):
            if old:
                self._start()  # whatever was missing may be there now
            else:  # the others are of no use to a job whose caller named this device
                self._store.fail_queued(self._cannot_run(self._why_not[-1]), self.settings_key, self.device)
            return
        if old:
            self._why_not = self._why_not[-1:]  # old evidence: once more
            self._start()
            return
        why, self._why_not = self._why_not[-1], []
        self._store.fail_queued(self._cannot_run(why), self.settings_key)
        self.join()

    def _cannot_run(self, why: str) -> JobError:
        own = "WAN_MCP_ENGINE_COMMAND is set: check that it starts an engine. " if self._settings.engine_command else ""
        asked = self._settings.device
        chosen = f"Device {asked} was asked for; omit it to use the one that is there. " if asked != AUTO else ""
        return JobError(
            code="engine_failed",
            message=f"The engine cannot start {why} {own}{chosen}"
            f"'wan-mcp doctor' checks the installation; the log is {self._settings.log_file}.",
        )

    def _others_can_run(self, own: str) -> bool:
        """Check whether an engine lives on another device, or a front runs that may start one."""
        if any(front.can_start and front.settings != self.settings_key for front in self._presence.others()):
            return True
        return any(device != own for device in engines_on(self._settings.home, self._rows, self._processes))

    def _start(self) -> None:
        now, start = self._processes.now(), self._start_under_way
        if start is not None:  # it runs, and has not taken the lock yet
            stopped = start.identity is not None and self._processes.is_stopped(start.identity)
            if stopped:
                start.at = now
            elif now - start.at > self._settings.load_deadline_s and start.identity is not None:
                log.error("engine %d never locked its device; ending it", start.process.pid)
                start.late = True
                self._processes.kill(start.identity)
            return
        if now < self._next_start:
            return
        try:
            command = shlex.split(self._settings.engine_command) or [
                sys.executable,
                "-P",  # nothing is imported from the home
                "-m",
                "wan_mcp",
                "engine",
            ]
            with writing_to(self._settings.log_file.parent):
                output = StartLog(self._settings.log_file)
                temporary = temporary_in(self._settings.home)
            environment = child_environment(downloads=True) | self._settings.environment() | temporary
            process = self._processes.start(command, environment, self._settings.home, output.file)
        except OutOfSpace as error:
            log.error("cannot start an engine yet: %s", error)
            self._pause(str(error))
            return
        except HomeUnusable as error:
            log.error("cannot start an engine: %s", error)
            self._count_failed_start(f"({error}).")
            return
        except (OSError, ValueError) as error:
            log.error("cannot start an engine with %s: %s", self._settings.engine_command, error)
            if isinstance(error, OSError) and is_passing(error):
                self._pause(error.strerror)
                return
            program = getattr(error, "filename", None) or self._settings.engine_command
            self._count_failed_start(f"('{program}': {getattr(error, 'strerror', None) or error}).")
            return
        self._start_under_way = _Start(process, self._processes.identity(process.pid), now, output)
        log.info("engine %d started for %s", process.pid, self._settings.device)

    # Engines that run, or ran.

    def _living(self) -> list[str]:
        others = living_devices(self._settings.home, self._rows, self._processes, self._presence.others())
        return others if self._cannot_start else [self.device, *others]

    def _fail_hopeless(self) -> None:
        if self._store.has_evidence():
            for job in self._store.fail_hopeless(self._living()):
                log.warning("job %s is failed: no engine that could run it is left", job.id)

    def _bury_if_dead(self, device: str) -> bool:
        if not self._bury(device):
            return False
        self._overdue_since = None
        return True

    def _bury(self, device: str) -> bool:
        """Requeue or fail the jobs of a dead engine of the device; return False if one is running."""
        lock = engine_lock(self._settings.home, device)
        try:
            with lock.acquire(blocking=False):
                signals = FatalSignals.of(self._settings, device)
                settle_orphans(self._store, device, partial(self._death_of, signals), self._living)
        except Timeout:
            return False
        return True

    def _death_of(self, signals: FatalSignals, engine: str | None) -> Death:
        return death_in(self._rows, engine, self._exits.get(engine or ""), self._processes, signals)

    def _end_if_overdue(self, device: str) -> None:
        row, now = self._rows.get(device), self._processes.now()
        if row is None or not row.lives(self._processes):
            self._overdue_since = None
            return
        if row.identity is not None and self._processes.is_stopped(row.identity):
            self._patient_until = now + row.silence_s  # it cannot send any sign; afterwards it has a full deadline
        until = now + row.deadline_at - time.time() if row.silent_until is None else row.silent_until  # None: of 0.1.0
        if now <= max(until, self._patient_until):
            self._overdue_since = None
        elif self._overdue_since is None:
            self._overdue_since = now
        elif now - self._overdue_since >= OVERDUE_GRACE_S:
            log.error("engine %d made no progress before its deadline; ending it", row.pid)
            if row.identity is not None:
                self._rows.note_end(device, row.identity, Ended.HUNG)
                self._processes.kill(row.identity)
            elif (process := row.process()) is not None:
                process.kill()
            self._overdue_since = None
