"""Results in the owner's output folder, under names that people can read: once each, and never over another file.

The engine saves a result before it adds it to the job. If it dies between the two, the next engine makes the same
result again and finds it saved. No trouble with the folder fails a job: the job gets a note, and its result is in the
home as usual.
"""

import filecmp
import logging
import stat
import threading
from pathlib import Path

from wan_mcp.files import link_or_copy
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.outputs import output_folder, saved_by_another
from wan_mcp.media.readable_names import numbered, readable_name
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.text import in_bytes

__all__ = ["OutputFolder"]

log = logging.getLogger(__name__)

PATIENCE_S = 20.0  # for a folder on a disk that does not answer: longer, and the engine would be taken for hung
MAX_SAME_NAMES = 1000


class OutputFolder:
    """The output folder of one job."""

    def __init__(self, database: Database, job: Job) -> None:
        self._database, self._job = database, job
        self._trouble: str | None = None

    def save(self, artifact: Artifact) -> tuple[Artifact, str | None]:
        """Save a finished result, if the job has an output folder.

        Returns the artifact with its place there, and a note for the caller if it could not be saved; a folder that
        has failed once is not tried again for the same job.
        """
        folder = output_folder(self._database, self._job.id)
        if folder is None or self._trouble is not None:
            return artifact, None
        place: list[Path | Exception] = []

        def save() -> None:
            try:
                place.append(self._save(Path(artifact.path), folder, readable_name(self._job, artifact)))
            except Exception as error:
                place.append(error)

        thread = threading.Thread(target=save, name="output folder", daemon=True)
        thread.start()
        thread.join(PATIENCE_S)
        if place and isinstance(place[0], Path):
            return artifact.model_copy(update={"saved_as": str(place[0])}), None
        self._trouble = _reason(place[0] if place else None, artifact)
        log.warning("a result was not saved in %s: %s", folder, self._trouble)
        return artifact, f"not saved in the output folder {folder}: {self._trouble}; the result is in the home"

    def _save(self, source: Path, folder: Path, name: str) -> Path:
        """Save a file in a folder under the first free name, or find it saved, and return its place.

        Raises:
            OSError: the folder is not there, cannot be written, or is full.
        """
        folder.mkdir(exist_ok=True)  # not its parents: they may be a disk that is not mounted
        for number in range(1, MAX_SAME_NAMES):
            target = folder / numbered(name, number)
            try:
                link_or_copy(source, target)
            except FileExistsError:
                if _is_copy(source, target) and not saved_by_another(self._database, self._job.id, target):
                    return target
                continue
            return target
        raise FileExistsError(f"{MAX_SAME_NAMES} files have the name {name}")


def _is_copy(source: Path, target: Path) -> bool:
    about = target.lstat()
    return stat.S_ISREG(about.st_mode) and (source.samefile(target) or filecmp.cmp(source, target, shallow=False))


def _reason(error: Path | Exception | None, artifact: Artifact) -> str:
    match error:
        case None:
            return f"it did not answer within {PATIENCE_S:.0f} s"
        case FileNotFoundError():
            return "it does not exist, nor does the folder above it"
        case OSError(strerror=str(why)):
            return f"{why[:1].lower()}{why[1:]} ({in_bytes(artifact.bytes)} are needed)"
    return str(error)
