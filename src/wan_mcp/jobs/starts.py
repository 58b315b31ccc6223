"""What the end of a starting engine says: it cannot start, or it was only stopped by others.

An engine writes to a separate file until it is ready, so that the reason for which it could not start is its own and
not a line of another engine. Then the file is added to the engines' log.
"""

import errno
import logging
import os
import secrets
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.jobs.workers import Ended
from wan_mcp.permissions import append_to, make_folder
from wan_mcp.text import last_line

__all__ = ["StartLog", "Verdict", "by_others", "is_passing", "is_shortage", "judge"]

log = logging.getLogger(__name__)

MIN_LIFE_S = 2.0  # an engine that finds the device taken waits longer than this before it leaves
LOG_BYTES = 5_000_000  # a larger log is set aside when an engine starts
STALE_S = 86_400.0
# Signals by which others end a process; by any other, it has crashed.
BY_OTHERS = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGXCPU}
SHELL_SIGNAL = 128  # a shell's exit code for a signal: this plus its number
# A machine that is short of something for the moment, not an engine that cannot start.
PASSING = {errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EINTR, errno.EIO}

# How the last words of an engine say the same, whatever library was short: of descriptors, threads, memory or disk.
SHORT_OF = (
    *(os.strerror(number) for number in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ENOSPC)),
    *(
        "can't start new thread",
        "MemoryError",
        "failed to map segment from shared object",
        "unable to open database file",
    ),
)


@dataclass(frozen=True)
class Verdict:
    """What an engine's end while it started says about the next start."""

    works: bool = False
    """It was ready: such engines can start."""
    why_not: str | None = None
    """Why it could not start; None if its end is no evidence of that."""


def judge(code: int, life_s: float, *, was_ready: bool, ended: str | None, late: bool) -> Verdict:
    """Return what the exit code of a started engine says, after `life_s` seconds.

    `ended` is what its row says of its end, if it has one; `late` is whether this front ended it because it had not
    taken its device's lock in time.
    """
    if was_ready:
        return Verdict(works=True)
    if late or ended == Ended.HUNG:
        return Verdict(why_not="(no sign of life in the time allowed)")
    if code == 0:
        # It found the device taken, or it is not an engine at all.
        return Verdict() if life_s >= MIN_LIFE_S or ended == Ended.LEFT else Verdict(why_not="(exit code 0)")
    if by_others(code):
        return Verdict()
    return Verdict(why_not=f"(exit code {code})" if code > 0 else f"(signal {-code})")


def by_others(code: int) -> bool:
    """Check whether an exit code says that others ended the process."""
    return (-code if code < 0 else code - SHELL_SIGNAL) in BY_OTHERS


def is_passing(error: OSError) -> bool:
    """Check whether the machine is only short of something for the moment."""
    return error.errno in PASSING


def is_shortage(said: str) -> bool:
    """Check whether words of a process that ended, or of an exception, say that the machine was short of something."""
    return any(words in said for words in SHORT_OF)


class StartLog:
    """The output of one engine until it is ready."""

    def __init__(self, log_file: Path) -> None:
        """Make room in the engines' log, and choose a file.

        Raises:
            OSError: the folder of logs cannot be written.
        """
        self._log_file = log_file
        folder = log_file.parent / "starts"
        make_folder(log_file.parent)
        make_folder(folder)
        if log_file.exists() and log_file.stat().st_size > LOG_BYTES:
            log_file.replace(log_file.with_suffix(".old.log"))
        for old in folder.glob("*.log"):
            with suppress(OSError):
                if time.time() - old.stat().st_mtime > STALE_S:
                    old.unlink()
        self.file = folder / f"{secrets.token_hex(8)}.log"

    def close(self) -> str:
        """Add the output to the engines' log, and return its last line."""
        try:
            with self.file.open(encoding="utf-8", errors="replace") as lines:
                last = last_line(lines)
            _append(self.file, self._log_file)
        except OSError:  # the engine itself has moved it
            last = None
        return f"{last.rstrip('.')}." if last else "no output was logged."

    @staticmethod
    def leave(log_file: Path) -> None:
        """Write to the engines' log from now on: an engine that is ready calls this."""
        own = os.fstat(2)
        for file in (log_file.parent / "starts").glob("*.log"):
            with suppress(OSError):
                if not os.path.samestat(file.stat(), own):
                    continue
                with append_to(log_file) as all_logs:
                    sys.stdout.flush()
                    sys.stderr.flush()
                    for each in (1, 2):
                        os.dup2(all_logs.fileno(), each)
                _append(file, log_file)


def _append(source: Path, target: Path) -> None:
    with source.open("rb") as content, append_to(target) as all_logs:
        shutil.copyfileobj(content, all_logs)
    source.unlink()
