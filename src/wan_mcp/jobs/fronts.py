"""The fronts that are running on a home: each holds the lock of a separate file, which says what it can start.

The kernel drops the lock when the front ends, however it ends and in whichever container. A front that has found that
it cannot start the engine of a device says so in its file, so that others need not wait for it.
"""

import fcntl
import hashlib
import json
import logging
import os
import secrets
import sys
import weakref
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_mcp.jobs.devices import AUTO, named
from wan_mcp.jobs.rows import is_device_name
from wan_mcp.parsing import parse_json
from wan_mcp.permissions import file_mode, make_folder
from wan_mcp.settings import Settings

__all__ = ["Front", "Presence", "settings_key"]

log = logging.getLogger(__name__)

SAID_BYTES = 65_536


def settings_key(settings: Settings) -> str:
    """Return a short name for what decides whether a front can start an engine: Python, device and command."""
    devices = ",".join(named(settings.device)) or AUTO
    parts = json.dumps([sys.executable, devices, settings.engine_command])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Front:
    """A running front."""

    settings: str
    """Its `settings_key`."""
    devices: tuple[str, ...]
    startable: tuple[str, ...]
    """Those of its devices for which it can start an engine."""


class Presence:
    """This front among the others of its home."""

    def __init__(self, home: Path, settings: str) -> None:
        self._folder = home / "fronts"
        self._settings = settings
        self._file: Path | None = None
        self._lock = -1
        self._said: bytes | None = None

    def join(self, devices: Sequence[str], startable: Collection[str]) -> None:
        """Say that this front runs, and for which of its devices it can start an engine. Call it again for a change."""
        of_one = {"device": devices[0], "can_start": bool(startable)}  # all that older versions know of
        words = {"settings": self._settings, **of_one, "devices": [*devices], "startable": sorted(startable)}
        said = json.dumps(words).encode()
        if said == self._said:
            return
        try:
            if self._file is None or not self._file.exists():
                self._open()
            os.pwrite(self._lock, said.ljust(len(self._said or b"")), 0)
            os.ftruncate(self._lock, len(said))
        except OSError as error:  # others may then give up sooner; this front works without it
            log.warning("cannot note that this front runs: %s", error)
            return
        self._said = said

    def others(self) -> list[Front]:
        """Return the other fronts that are running, and remove the files of those that ended."""
        try:
            files = sorted(self._folder.glob("*.json"))
        except OSError:
            return []
        return [front for file in files if file != self._file and (front := _front_of(file)) is not None]

    def leave(self) -> None:
        """Say that this front ends."""
        if self._file is not None:
            with suppress(OSError):
                self._file.unlink()
            self._closes()
            self._file, self._said = None, None

    def _open(self) -> None:
        make_folder(self._folder)
        mode = file_mode(self._folder)
        while True:
            file = self._folder / f"{secrets.token_hex(8)}.json"
            lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode)
            fcntl.flock(lock, fcntl.LOCK_EX)
            if file.exists():  # nobody has taken it for one that was left behind
                break
            os.close(lock)
        self._file, self._lock, self._said = file, lock, None
        self._closes = weakref.finalize(self, os.close, lock)


def _front_that_said(said: dict[str, Any]) -> Front:
    of_one = [said["device"]]  # an older version says no more than that
    devices = said.get("devices", of_one)
    startable = said.get("startable", [] if said.get("can_start") is False else of_one)
    return Front(str(said.get("settings")), *(tuple(filter(is_device_name, each)) for each in (devices, startable)))


def _front_of(file: Path) -> Front | None:
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:  # its front lives
            said = parse_json(os.read(descriptor, SAID_BYTES) or b"{}")
            if isinstance(said, dict) and is_device_name(said.get("device")):
                return _front_that_said(said)
            return Front("", (AUTO,), (AUTO,))  # it begins to write, or is a newer version's
        file.unlink()
    except (OSError, ValueError, TypeError):
        pass
    finally:
        os.close(descriptor)
    return None
