"""The processes of this machine: who one is, whether it lives, runs or is stopped, and who holds a lock.

A process is identified by its pid, its start in ticks since boot, the boot, and the pid namespace: none of them moves
when the clock is set. Time is `time.monotonic`, which on Linux and macOS neither steps nor counts a machine's sleep.
"""

import os
import re
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Protocol

import psutil

from wan_mcp.permissions import append_to
from wan_mcp.text import shortened

__all__ = ["Processes", "Started"]

COMMAND_SHOWN = 120  # characters
PROC = Path("/proc")


class Started(Protocol):
    """A process that was started here."""

    @property
    def pid(self) -> int:
        """Its pid."""

    def poll(self) -> int | None:
        """Return its exit code, negative for a signal; None while it runs."""


class Processes:
    """What a supervisor asks the machine. Tests replace it by a model of a machine."""

    def now(self) -> float:
        """Return seconds on a clock that does not step and does not count sleep."""
        return time.monotonic()

    def identity(self, pid: int | None = None) -> str | None:
        """Return who the process of that pid (default: this one) is; None if there is none, or only its remains."""
        try:
            started = _start_of(os.getpid() if pid is None else pid)
        except (OSError, psutil.Error, ValueError, OverflowError):
            return None
        return f"{_boot()}/{_namespace()}/{os.getpid() if pid is None else pid}/{started}"

    def is_here(self, identity: str) -> bool:
        """Check whether a process of that identity could be seen from here: not in another container or boot."""
        return identity.startswith(f"{_boot()}/{_namespace()}/")

    def lives(self, identity: str) -> bool:
        """Check whether a process lives; never true for one that cannot be seen from here."""
        return self.is_here(identity) and self.identity(_pid_of(identity)) == identity

    def is_stopped(self, identity: str) -> bool:
        """Check whether a process is stopped (SIGSTOP, a debugger): then it cannot do anything in time."""
        try:
            status = psutil.Process(_pid_of(identity)).status()
        except (psutil.Error, ValueError, OverflowError):
            return False
        return status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP)

    def kill(self, identity: str) -> None:
        """End a process, if it is still the same."""
        if self.lives(identity):
            with suppress(ProcessLookupError):
                os.kill(_pid_of(identity), signal.SIGKILL)

    def ask_to_end(self, identity: str) -> None:
        """Ask a process to end in good order, if it is still the same."""
        if self.lives(identity):
            with suppress(ProcessLookupError):
                os.kill(_pid_of(identity), signal.SIGTERM)

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path) -> Started:
        """Start a process in a new session, so that it outlives this one; its output is added to a file.

        Raises:
            OSError, ValueError: it cannot be started.
        """
        with append_to(output) as file:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                cwd=folder,
                env=dict(environment),
            )

    def holder_of(self, lock: Path) -> int | None:
        """Return the pid of the process that holds the lock on a file; None where the system does not tell."""
        try:
            file = lock.stat()
            lines = (PROC / "locks").read_text(encoding="ascii").splitlines()
        except (OSError, UnicodeDecodeError):
            return None
        pids = {}
        for line in lines:
            found = re.match(r"\d+: FLOCK +\S+ +WRITE +(\d+) +([0-9a-f]+):([0-9a-f]+):(\d+) ", line)
            if found and int(found[4]) == file.st_ino and int(found[1]) > 0:
                pids[os.makedev(int(found[2], 16), int(found[3], 16))] = int(found[1])
        if not pids:
            return None
        return pids.get(file.st_dev, next(iter(pids.values())))  # some file systems have a device for each mount

    def command_of(self, pid: int) -> str:
        """Return the command of a process, for people."""
        try:
            words = " ".join(psutil.Process(pid).cmdline())
        except (psutil.Error, ValueError, OverflowError):
            words = ""
        return shortened("".join(c if c.isprintable() else " " for c in words), COMMAND_SHOWN) or "an unknown command"

    def oom_kills(self) -> int:
        """Return how many processes were killed for want of memory since the machine booted; 0 if it does not say."""
        try:
            found = re.search(r"^oom_kill (\d+)$", (PROC / "vmstat").read_text(encoding="ascii"), re.MULTILINE)
        except (OSError, UnicodeDecodeError):
            return 0
        return int(found[1]) if found else 0


def _pid_of(identity: str) -> int:
    return int(identity.split("/")[2])


def _start_of(pid: int) -> str:
    """Return when a process was started, on a scale that does not move.

    Raises:
        OSError, psutil.Error: there is no such process, or it has ended and waits for its parent.
    """
    if not (PROC / "self" / "stat").exists():  # macOS: the kernel keeps the time of the start itself
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            raise psutil.NoSuchProcess(pid)
        return repr(process.create_time())
    stat = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    fields = stat[stat.rindex(")") + 2 :].split()
    if fields[0] in "ZX":
        raise ProcessLookupError(pid)
    return fields[19]  # starttime, field 22 of proc_pid_stat(5), in clock ticks since boot


@cache
def _boot() -> str:
    try:
        return (PROC / "sys" / "kernel" / "random" / "boot_id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return "-"


@cache
def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid").replace("/", "-")  # noqa: PTH115  # not a path
    except OSError:
        return "-"
