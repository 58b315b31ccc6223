"""The supervisor of engine processes: start one, notice its death, end one that hangs.

An engine holds the lock file of its device for as long as it runs, so a process that can take the lock
knows that no engine runs.
"""

import logging
import shlex
import subprocess
import sys
import threading
import time

from filelock import Timeout

from wan_mcp.child_environment import child_environment, temporary_in
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.devices import DeviceNames
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.permissions import append_to
from wan_mcp.schema.jobs import JobError
from wan_mcp.settings import Settings
from wan_mcp.text import last_line

__all__ = ["Supervisor"]


log = logging.getLogger(__name__)
STARTS_ALLOWED = 2
MIN_LIFE_S = 2.0  # an engine that finds the device taken waits longer than this before it leaves
LOG_BYTES = 5_000_000  # a larger log is set aside when an engine starts
# A machine that slept finds every deadline passed: only a deadline that stays passed while we
# look at it, awake, for this long is believed.
OVERDUE_GRACE_S = 3.0


class Supervisor:
    """Keeps an engine running while there is work. Each call of `supervise` is one turn."""

    def __init__(self, settings: Settings, store: JobStore) -> None:
        self._settings = settings
        self._names = DeviceNames(store.database)
        self._store = store
        self._rows = WorkerRegistry(store.database)
        self._turn = threading.Lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._failed_starts = 0
        self._overdue_since: float | None = None

    @property
    def device(self) -> str:
        """The canonical name of the settings' device, as far as an engine has recorded it."""
        return self._names.of(self._settings.device)

    def loaded(self) -> LoadedModels | None:
        """Return the loaded models of a ready engine, or None; for estimates, because it does not check the lock."""
        row = self._rows.get(self.device)
        return row.loaded if row is not None and row.ready and row.process() is not None else None

    def machine(self) -> Machine | None:
        """Return the machine as an engine has recorded it; None if no engine has run since the machine booted."""
        return self._rows.machine(self.device)

    def supervise(self) -> None:
        """Requeue the jobs of dead engines, end a hung one, start one if jobs wait. Call it while jobs are unfinished.

        Raises:
            HomeUnusable: the home folder or the job table cannot be used.
        """
        with self._turn:
            self._reap()
            own = self.device
            for device in self._store.devices_at_work():
                if device != own:  # of fronts with other settings, that may never come back
                    self._bury(device)
            if not self._bury_if_dead(own):
                self._end_if_overdue(own)
            elif self._store.has_queued():  # looked at after the lock: what a busy lock hid from others is seen here
                self._start()

    def _reap(self) -> None:
        if self._started is None or (code := self._started.poll()) is None:
            return
        pid, self._started = self._started.pid, None
        no_engine = time.monotonic() - self._started_at < MIN_LIFE_S  # a command that is none, and ends well
        if self._rows.was_ready(pid) or (code == 0 and not no_engine):
            self._failed_starts = 0
            return
        log.error("engine %d failed to start (exit code %d); see %s", pid, code, self._settings.log_file)
        self._count_failed_start(f"(exit code {code}): {self._last_words()}")

    def _count_failed_start(self, why: str) -> None:
        self._failed_starts += 1
        if self._failed_starts < STARTS_ALLOWED:
            return
        self._failed_starts = 0
        own = "WAN_MCP_ENGINE_COMMAND is set: check that it starts an engine. " if self._settings.engine_command else ""
        self._store.fail_queued(
            JobError(
                code="engine_failed",
                message=f"The engine cannot start {why} {own}"
                f"'wan-mcp doctor' checks the installation; the log is {self._settings.log_file}.",
            )
        )

    def _last_words(self) -> str:
        try:
            with self._settings.log_file.open(encoding="utf-8", errors="replace") as lines:
                last = last_line(lines)
        except OSError:
            last = None
        return f"{last.rstrip('.')}." if last else "no output was logged."

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
                for job in self._store.requeue_orphans(device):
                    log.warning("an engine died while running job %s, which is now %s", job.id, job.state)
        except Timeout:
            return False
        return True

    def _start(self) -> None:
        if self._started is not None:  # it runs, and has not taken the lock yet
            if time.monotonic() - self._started_at > self._settings.load_deadline_s:
                log.error("engine %d never locked its device; ending it", self._started.pid)
                self._started.kill()
            return
        own = [sys.executable, "-P", "-m", "wan_mcp", "engine"]  # -P: nothing is imported from the home
        file = self._settings.log_file
        try:
            command = shlex.split(self._settings.engine_command) or own
        except ValueError as error:  # such as a quotation mark without its partner
            log.error("cannot start an engine with %s: %s", self._settings.engine_command, error)
            self._count_failed_start(f"('{self._settings.engine_command}': {error}).")
            return
        try:
            temporary = temporary_in(self._settings.home)
            if file.exists() and file.stat().st_size > LOG_BYTES:
                file.replace(file.with_suffix(".old.log"))
            with append_to(file) as output:
                self._started = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    cwd=self._settings.home,
                    env=child_environment(downloads=True) | self._settings.environment() | temporary,
                )
        except OSError as error:
            log.error("cannot start an engine with %s: %s", shlex.join(command), error)
            self._count_failed_start(f"('{command[0]}': {error.strerror}).")
            return
        self._started_at = time.monotonic()
        log.info("engine %d started for %s", self._started.pid, self._settings.device)

    def _end_if_overdue(self, device: str) -> None:
        row = self._rows.get(device)
        if row is None or time.time() <= row.deadline_at:
            self._overdue_since = None
            return
        now = time.monotonic()
        if self._overdue_since is None:
            self._overdue_since = now
        elif now - self._overdue_since >= OVERDUE_GRACE_S and (process := row.process()) is not None:
            log.error("engine %d made no progress before its deadline; ending it", row.pid)
            process.kill()
            self._overdue_since = None
