"""What killed processes have left in a home and nobody needs: unfinished files, and files of jobs that are gone.

Nothing is taken for a leftover that a running process may still write: an unfinished file must be free of its writer's
lock, and all else must be old.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.files import stale_in
from wan_mcp.jobs.device_lock import locked_devices
from wan_mcp.jobs.history import JobHistory
from wan_mcp.media.store import MediaStore
from wan_mcp.settings import Settings

__all__ = ["Leftover", "files_of_unknown_jobs", "remove", "unfinished_files"]

OLD_S = 86_400.0
UNFINISHED_IN = ("media/*", "previews", "weights", "converted", "packages", "embeddings", "engines", "logs", "loras")
"""The folders of a home in which files and folders are written under temporary names."""


@dataclass(frozen=True)
class Leftover:
    """A file or folder that can be removed."""

    path: Path
    bytes: int


def unfinished_files(settings: Settings) -> list[Leftover]:
    """Return the unfinished files and folders without a writer, in the home and in the output folder.

    Temporary files of engines are among them while no engine of this home runs.
    """
    folders = [folder for pattern in UNFINISHED_IN for folder in settings.home.glob(pattern) if folder.is_dir()]
    found = [file for folder in folders for file in stale_in(folder)]
    if settings.output_dir is not None:
        found += stale_in(settings.output_dir, former=False)
    if not locked_devices(settings.home):
        found += _old(settings.home / "tmp")
    return [Leftover(file, _size(file)) for file in found]


def files_of_unknown_jobs(media: MediaStore, history: JobHistory) -> list[Leftover]:
    """Return the old files of results whose job is not in the table, as after a repair that set its row aside."""
    files = [(job_id, Path(entry.path)) for job_id, entry in media.result_files()]
    known = history.ids()  # after the files: a job that has begun meanwhile is known
    unknown = [file for job_id, file in files if job_id not in known]
    return [Leftover(file, _size(file)) for file in unknown if _age(file) > OLD_S]


def remove(leftover: Leftover) -> bool:
    """Remove a leftover; return whether it is gone."""
    path = leftover.path
    with suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return not path.exists()


def _old(folder: Path) -> Iterator[Path]:
    with suppress(OSError):
        for entry in folder.iterdir():
            if min(_age(entry), *(_age(file) for file in entry.rglob("*")), OLD_S + 1) > OLD_S:
                yield entry


def _age(file: Path) -> float:
    """Return for how many seconds a file was not written; 0 for one that has just been removed."""
    try:
        return time.time() - file.lstat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    size = 0
    for each in (path, *path.rglob("*")):
        with suppress(OSError):
            size += each.lstat().st_size if not each.is_dir() else 0
    return size
