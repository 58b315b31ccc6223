"""The finished shots of unfinished videos: raw frames on the disk, so that a killed engine loses one shot only.

A shot is `media/shots/<job id>-<number>-<key>.npy`. The key says what made it, so frames of other weights or versions
are never joined. The engine writes and removes these files; nothing else reads them. numpy is imported where it is
used.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.files import sweep_stale
from wan_mcp.media.store import whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["KeptShots", "remove_shots", "sweep_shots"]

KEY_LETTERS = 16


def _folder(home: Path) -> Path:
    return home / "media" / "shots"


class KeptShots:
    """The finished shots of one job."""

    def __init__(self, home: Path, job_id: str, receipt: Mapping[str, Any]) -> None:
        """Keep shots that are made as `receipt` says."""
        said = json.dumps(receipt, sort_keys=True).encode()
        self._folder, self._job_id = _folder(home), job_id
        self._key = hashlib.sha256(said).hexdigest()[:KEY_LETTERS]

    def _file(self, number: int) -> Path:
        return self._folder / f"{self._job_id}-{number}-{self._key}.npy"

    def frames(self, number: int) -> "NDArray[np.uint8] | None":
        """Return a shot's frames, of shape (frames, height, width, 3), which stay on the disk; None if not kept."""
        import numpy as np

        try:
            frames: NDArray[np.uint8] = np.load(self._file(number), mmap_mode="r", allow_pickle=False)
        except Exception:  # not there, or damaged: numpy reads the head as Python, and raises what its parser raises
            return None
        return frames if frames.dtype == np.uint8 and frames.ndim == 4 else None

    def keep(self, number: int, frames: "NDArray[np.uint8]") -> None:
        """Write a shot's frames.

        Raises:
            OutOfSpace: the disk is full.
        """
        import numpy as np

        with whole(self._file(number)) as temporary, temporary.open("wb") as file:
            np.save(file, frames, allow_pickle=False)


def remove_shots(home: Path, job_id: str) -> None:
    """Remove the shots of a job that has ended."""
    for file in _folder(home).glob(f"{job_id}-*.npy"):
        file.unlink(missing_ok=True)


def sweep_shots(home: Path, unfinished: Collection[str]) -> None:
    """Remove the shots of all but `unfinished` jobs, and what killed writers left."""
    sweep_stale(_folder(home))
    for file in _folder(home).glob("*.npy"):
        if file.name.partition("-")[0] not in unfinished:
            file.unlink(missing_ok=True)
