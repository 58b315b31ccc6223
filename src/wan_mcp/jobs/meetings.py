"""Where engines agree to run one job together: a folder in the home for each attempt, which only its owner may enter.

The engine that claimed the job invites idle ones by name, waits a moment for those that accept, and begins with them.
An engine that dies at any point costs the others a short wait. Ranks of the job then meet in the same folder.
"""

import json
import logging
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wan_mcp.files import atomic_file, atomic_folder
from wan_mcp.parsing import parse_json
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

__all__ = ["Invitation", "Meeting", "find_invitation", "helpers", "invite", "sweep_meetings"]

log = logging.getLogger(__name__)

FOLDER = "meetings"
INVITED, BEGUN, ACCEPTED = "invited.json", "begun.json", "accepted-"
ACCEPT_S = 2.0
"""Seconds in which invited engines answer: an idle one looks five times a second."""
BEGIN_S = 10.0
"""Seconds in which an engine that accepted hears that the job begins; after that, its inviter is taken for dead."""
LOOK_S = 0.02


@dataclass(frozen=True)
class Meeting:
    """A job's meeting, as the engine that invited has it."""

    folder: Path
    job: str
    devices: tuple[str, ...] = ()
    """Of all ranks in their order, once the job has begun; the first is the one that invited."""

    def begin(self, device: str, invited: Collection[str]) -> "Meeting":
        """Wait for answers, and begin with those engines that accepted, in the order of `invited`.

        The meeting that is returned may have too few devices: the caller closes it then.
        """
        until = time.monotonic() + ACCEPT_S
        while (accepted := self._accepted(invited)) != list(invited) and time.monotonic() < until:
            time.sleep(LOOK_S)
        return Meeting(self.folder, self.job, (device, *accepted))

    def start(self, count: int) -> "Meeting":
        """Tell the engines of the first `count` devices to begin, and the others that they are not needed."""
        devices = self.devices[:count]
        _write(self.folder / BEGUN, {"devices": devices})
        return Meeting(self.folder, self.job, devices)

    def close(self) -> None:
        """Remove the folder: engines that still wait go back to the queue."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _accepted(self, invited: Collection[str]) -> list[str]:
        return [device for device in invited if (self.folder / (ACCEPTED + _file_name(device))).exists()]


@dataclass(frozen=True)
class Invitation:
    """A job's meeting, as an engine that is invited has it."""

    folder: Path
    job: str
    device: str

    def accept(self) -> tuple[int, int] | None:
        """Accept, and wait until the job begins; return this engine's rank and the number of ranks.

        Return None if it begins without this engine, or not at all.
        """
        with suppress(OSError):
            (self.folder / (ACCEPTED + _file_name(self.device))).touch(exist_ok=True)
        until = time.monotonic() + BEGIN_S
        while time.monotonic() < until and self.folder.is_dir():
            begun = _read(self.folder / BEGUN)
            if begun is not None:
                devices = begun["devices"]
                return (devices.index(self.device), len(devices)) if self.device in devices else None
            time.sleep(LOOK_S)
        return None

    @property
    def answered(self) -> bool:
        """Check whether this engine has accepted before."""
        return (self.folder / (ACCEPTED + _file_name(self.device))).exists()


def invite(home: Path, job: Job, devices: Sequence[str]) -> Meeting:
    """Invite the engines of these devices to an attempt at a job.

    Raises:
        OSError: the home cannot be written.
    """
    folder = _folder(home, job)
    with atomic_folder(folder, private=True) as scratch:
        _write(scratch / INVITED, {"job": job.id, "devices": list(devices)})
    return Meeting(folder, job.id)


def find_invitation(home: Path, device: str) -> Invitation | None:
    """Return an invitation to the engine of `device` that it has not answered; None if there is none."""
    try:
        folders = [entry for entry in (home / FOLDER).iterdir() if entry.is_dir()]
    except OSError:
        return None
    for folder in folders:
        invited = _read(folder / INVITED)
        if invited is not None and device in invited["devices"]:
            invitation = Invitation(folder, invited["job"], device)
            if not invitation.answered:
                return invitation
    return None


def helpers(home: Path, unfinished: Iterable[Job]) -> dict[str, Job]:
    """Return the devices whose engines work on running jobs of other engines, with those jobs."""
    found: dict[str, Job] = {}
    for job in unfinished:
        begun = _read(_folder(home, job) / BEGUN) if job.state is JobState.RUNNING else None
        found |= {device: job for device in (begun or {"devices": []})["devices"][1:] if isinstance(device, str)}
    return found


def sweep_meetings(home: Path, running: Callable[[], Collection[str]]) -> None:
    """Remove the meetings of jobs that are not running: their engine died.

    `running` returns the ids of those that run. It is asked after the folders: a job is claimed before its meeting.
    """
    with suppress(OSError):
        folders = [*(home / FOLDER).iterdir()]
        there = running()
        for folder in folders:
            if folder.name.removeprefix(".").rpartition("-")[0] not in there:
                shutil.rmtree(folder, ignore_errors=True)


def _folder(home: Path, job: Job) -> Path:
    return home / FOLDER / f"{job.id}-{job.attempt}"


def _file_name(device: str) -> str:
    return device.replace(":", "-")


def _write(file: Path, content: dict[str, Any]) -> None:
    with atomic_file(file, private=True) as path:
        path.write_text(json.dumps(content), encoding="utf-8")


def _read(file: Path) -> dict[str, Any] | None:
    """Return what another engine wrote; None if it is not there, or is not what engines of this version write."""
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    valid = isinstance(found, dict) and isinstance(found.get("devices"), list)
    return found if valid and (file.name != INVITED or isinstance(found.get("job"), str)) else None
