"""The supervisor of one device's engine: start it, notice its death, end it when it hangs.

An engine holds the lock file of its device for as long as it runs, so a process that can take the lock knows that no
engine runs. Which devices need an engine, and what becomes of jobs, is for `supervisor` to say.
"""

import logging
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from filelock import Timeout

from wan_mcp.child_environment import child_environment, temporary_in
from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.files import writing_to
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.fatal_signals import FatalSignals
from wan_mcp.jobs.in_the_way import InTheWay
from wan_mcp.jobs.orphans import death_in, settle_orphans
from wan_mcp.jobs.processes import Processes, Started
from wan_mcp.jobs.starts import StartLog, is_passing, is_shortage, judge
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import Ended, WorkerRegistry, WorkerRow
from wan_mcp.settings import Settings

__all__ = ["DeviceSupervisor"]


log = logging.getLogger(__name__)
STARTS_ALLOWED = 2
RETRY_S = 30.0  # evidence that engines cannot start is no older than this when it is used
# Between the starts of engines that were killed: they may be killed because the machine has too little memory.
FIRST_PAUSE_S, MAX_PAUSE_S = 0.25, 8.0
# A deadline that has passed is believed when it stays passed for this long while we look.
OVERDUE_GRACE_S = 3.0


@dataclass
class _Start:
    """An engine that was started here and may not be ready yet."""

    process: Started
    identity: str | None
    at: float
    output: StartLog
    late: bool = False


class DeviceSupervisor:
    """What one front knows of the engine of one device, and does about it."""

    def __init__(
        self, device: str, settings: Settings, store: JobStore, rows: WorkerRegistry, processes: Processes
    ) -> None:
        """Supervise the engine of `device`; `settings` are those with which it is started."""
        self.device = device
        self._settings = settings
        self._store = store
        self._rows = rows
        self._processes = processes
        self._in_the_way = InTheWay(settings.home, rows, processes)
        self._start_under_way: _Start | None = None
        self._exits: dict[str, int] = {}  # exit codes by the identities of engines
        self._why_not: list[str] = []  # of the starts that failed one after the other
        self._failed_at = 0.0
        self._killed_starts = 0
        self._short_of: str | None = None  # what the last start that failed was short of, in its words
        self._next_start = 0.0
        self._overdue_since: float | None = None
        self._patient_until = 0.0

    # What is known.

    @property
    def hindrance(self) -> str | None:
        """Why no engine of the device can take jobs at the moment, in a sentence; None if nothing is known."""
        if (obstacle := self._in_the_way.found) is not None:
            return obstacle
        if not self.can_start:
            return f"no engine of this server can start: {self._why_not[-1]}"
        if self._short_of is not None:
            return f"no engine can start for now: {self._short_of}"
        if self._killed_starts > 1:
            return f"the engine was killed {self._killed_starts} times while it started (too little memory?)"
        return None

    @property
    def is_taken(self) -> bool:
        """Whether a stranger holds the device."""
        return self._in_the_way.found is not None

    @property
    def can_start(self) -> bool:
        """Whether an engine may start, for all that is known."""
        return len(self._why_not) < STARTS_ALLOWED

    @property
    def is_starting(self) -> bool:
        """Whether an engine was started here that has not ended, as far as is known."""
        return self._start_under_way is not None

    @property
    def why_not(self) -> str:
        """Why the last engine could not start."""
        return self._why_not[-1]

    @property
    def failed_at(self) -> float:
        """When the last engine could not start, on the clock of `Processes.now`."""
        return self._failed_at

    @property
    def evidence_is_old(self) -> bool:
        """Whether the last failed start is so long ago that whatever was missing may be there now."""
        return self._processes.now() - self._failed_at >= RETRY_S

    def engine(self) -> WorkerRow | None:
        """Return the living engine of the device, or None."""
        row = self._rows.get(self.device)
        return row if row is not None and row.lives(self._processes) else None

    # What happens to it.

    def forget_stop(self, gap: float) -> None:
        """Restart the deadline of an engine that is waited for: this process or the machine was stopped for `gap` s."""
        self._overdue_since = None
        row = self._rows.get(self.device)
        self._patient_until = self._processes.now() + (row.silence_s if row is not None else 0.0)
        if self._start_under_way is not None:
            self._start_under_way.at += gap

    def reap(self) -> None:
        """Notice the end of the engine that was started here, and what it says about the next start."""
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

    def bury(self, living: Callable[[], list[str]]) -> bool:
        """Requeue or fail the jobs of a dead engine of the device; return False if one is running.

        `living` returns the devices whose engines may run those jobs.
        """
        lock = engine_lock(self._settings.home, self.device)
        try:
            with lock.acquire(blocking=False):
                signals = FatalSignals.of(self._settings, self.device)
                settle_orphans(self._store, self.device, partial(self._death_of, signals), living)
        except Timeout:
            return False
        return True

    def _death_of(self, signals: FatalSignals, engine: str | None) -> Death:
        return death_in(self._rows, engine, self._exits.get(engine or ""), self._processes, signals)

    def watch_running(self) -> None:
        """Look at the engine that holds the device: whether it is one, and whether it hangs."""
        self._in_the_way.look(self.device)
        self._end_if_overdue()

    def watch_dead(self) -> None:
        """Note that the device is free; end an engine that was started and has not taken it in time."""
        self._in_the_way.clear()
        self._overdue_since = None
        start, now = self._start_under_way, self._processes.now()
        if start is None:
            return
        if start.identity is not None and self._processes.is_stopped(start.identity):
            start.at = now
        elif now - start.at > self._settings.load_deadline_s and start.identity is not None:
            log.error("engine %d never locked its device; ending it", start.process.pid)
            start.late = True
            self._processes.kill(start.identity)

    def _end_if_overdue(self) -> None:
        row, now = self._rows.get(self.device), self._processes.now()
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
                self._rows.note_end(self.device, row.identity, Ended.HUNG)
                self._processes.kill(row.identity)
            elif (process := row.process()) is not None:
                process.kill()
            self._overdue_since = None

    # Starts.

    def forgive(self) -> None:
        """Forget that engines could not start."""
        self._why_not = []

    def doubt(self) -> None:
        """Let one more engine start: the evidence that none can is old."""
        self._why_not = self._why_not[-1:]

    def _pause(self, short_of: str | None = None) -> None:
        """Wait before the next start: the last one was not the engine's fault, but may be repeated at once."""
        self._short_of = short_of
        pause = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**self._killed_starts)
        self._killed_starts += 1
        self._next_start = self._processes.now() + pause

    def _count_failed_start(self, why: str) -> None:
        self._why_not = [*self._why_not, why][-STARTS_ALLOWED:]
        self._failed_at = self._processes.now()

    def start(self) -> None:
        """Start an engine, unless one is starting, or others were killed a moment ago."""
        now = self._processes.now()
        if self.is_starting or now < self._next_start:
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
