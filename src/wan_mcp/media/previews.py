"""The folder of live previews: a picture of what a running job denoises, and the sign that somebody wants one.

A front touches `previews/ID.wanted` when somebody looks at a job. The engine makes previews while that file is recent,
so that they cost nothing when nobody looks. A preview carries the number of the attempt that made it: that of a dead
attempt is never shown for another. Both files are removed when an attempt ends; what a killed engine left is swept when
the next one starts. Pillow and numpy are imported where they are used.
"""

import logging
import os
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wan_mcp.files import atomic_file, sweep_stale
from wan_mcp.media.generated_mark import XMP
from wan_mcp.permissions import create_file, make_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LOOK_S", "MAX_FRAMES", "PreviewStore"]

log = logging.getLogger(__name__)

LOOK_S = 15.0  # a look counts for so long: pages look every second, models every few seconds
TOUCH_S = 1.0  # a look this soon after another changes nothing
MAX_FRAMES = 4
IMAGE_SIDE = 384  # pixels of the longer side of a preview of an image
FRAME_SIDE = 256  # and of each frame of a video
QUALITY = 80
COMMENT_WITHIN = 2048  # bytes from the start of a JPEG: Pillow writes the comment after the header and the XMP packet


class PreviewStore:
    """The previews of one home folder."""

    def __init__(self, home: Path) -> None:
        self._folder = home / "previews"

    def path(self, job_id: str) -> Path:
        """Return the path of a job's preview, which may not exist."""
        return self._folder / f"{job_id}.jpg"

    def _wanted(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.wanted"

    def look(self, job_id: str) -> bool:
        """Record that somebody looks at a job now; return whether that was written.

        A look soon after another is not. A home that cannot be written costs the preview and no more.
        """
        file = self._wanted(job_id)
        try:
            if 0 <= time.time() - _touched(file) < TOUCH_S:
                return False
            make_folder(self._folder)
            create_file(file)
            os.utime(file)
        except OSError as error:
            log.debug("cannot note that a preview is wanted: %s", error)
            return False
        return True

    def forget_look(self, job_id: str) -> None:
        """Remove the sign of a look at a job that has ended meanwhile."""
        _remove(self._wanted(job_id))

    def wanted(self, job_id: str) -> bool:
        """Check whether somebody looked at a job just now; one look at the disk."""
        return abs(time.time() - _touched(self._wanted(job_id))) < LOOK_S

    def write(self, job_id: str, attempt: int, frames: "NDArray[np.uint8]", size: tuple[int, int]) -> None:
        """Write a preview: frames of shape (count, rows, columns, 3), side by side.

        `size` is the width and height of the result, whose shape each frame gets.

        Raises:
            OSError: it cannot be written.
        """
        from PIL import Image

        side = IMAGE_SIDE if len(frames) == 1 else FRAME_SIDE
        scale = min(1.0, side / max(size))
        width, height = (max(1, round(length * scale)) for length in size)
        strip = Image.new("RGB", (width * len(frames), height))
        for index, frame in enumerate(frames):
            strip.paste(Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC), (index * width, 0))
        with atomic_file(self.path(job_id), private=True) as temporary:
            strip.save(temporary, "JPEG", quality=QUALITY, comment=_mark(job_id, attempt), xmp=XMP)

    def read(self, job_id: str, attempt: int) -> bytes | None:
        """Return the JPEG that an attempt at a job made last; None if there is none."""
        try:
            picture = self.path(job_id).read_bytes()
        except OSError:
            return None
        return picture if _mark(job_id, attempt) in picture[:COMMENT_WITHIN] else None

    def remove(self, job_id: str, attempt: int) -> None:
        """Remove what an attempt at a job left here; the preview of another attempt stays."""
        if self.read(job_id, attempt) is not None:
            _remove(self.path(job_id))
        if not self.path(job_id).exists():
            _remove(self._wanted(job_id))

    def sweep(self, unfinished: Collection[str], running: Collection[str]) -> None:
        """Remove the previews of all but `running` jobs, and the looks at all but `unfinished` ones."""
        sweep_stale(self._folder)
        for file in self._folder.glob("*.jpg"):
            if file.stem not in running:
                _remove(file)
        for file in self._folder.glob("*.wanted"):
            if file.stem not in unfinished:
                _remove(file)


def _mark(job_id: str, attempt: int) -> bytes:
    return f"wan-mcp {job_id} attempt {attempt}.".encode()


def _touched(file: Path) -> float:
    """Return when a file was touched last (Unix time, seconds); 0 if there is none."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _remove(file: Path) -> None:
    with suppress(OSError):
        file.unlink()
