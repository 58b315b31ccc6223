"""Videos that requests extend: results of this home, kept under their hash for as long as a job needs them."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wan_mcp.child_environment import child_environment
from wan_mcp.errors import BadImage, BadRequest, JobFailed
from wan_mcp.files import writing_to
from wan_mcp.media import ffmpeg
from wan_mcp.media.local_files import open_result
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.media.video_frames import facts_of_video
from wan_mcp.permissions import make_folder
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.plans import InputVideo
from wan_mcp.text import quoted

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["InputVideos", "decoded", "frames_of", "name_of_video", "receipt_in"]

BATCH = 16  # frames
CHUNK = 1 << 20  # bytes

JOB = re.compile(r"(?:video_)?([0-9a-z]{20})")


def name_of_video(asked: str) -> MediaName:
    """Return the result that a job id or a wan:// address names.

    Raises:
        BadRequest: It names none, or an image.
    """
    if (job := JOB.fullmatch(asked.strip())) is not None:
        return MediaName.of(job[1], 0, Kind.VIDEO)
    try:
        name = MediaName.parse(asked.strip())
    except BadRequest as error:
        raise BadRequest(f"{quoted(asked)} is neither a job id nor the wan:// address of a video") from error
    if name.kind is not Kind.VIDEO:
        raise BadRequest(f"{quoted(asked)} is an image; pass it as image, to start a video from it")
    return name


class InputVideos:
    """Keeps the videos that are extended."""

    def __init__(self, media: MediaStore, max_megapixels: float) -> None:
        self._media, self._max_pixels = media, int(max_megapixels * 1e6)

    def look(self, asked: str) -> InputVideo:
        """Return what `take` would, without keeping anything; raises the same."""
        name = name_of_video(asked)
        try:
            with open_result(self._media.path(name)) as file:
                facts = facts_of_video(file, self._max_pixels)
                digest = _sha256(file)
        except FileNotFoundError as error:
            raise BadImage(f"no result {name.uri}; it may have been deleted") from error
        kept = (self._media.inputs / f"{digest}.mp4").relative_to(self._media.home)
        return InputVideo(
            sha256=digest,
            file=str(kept),
            width=facts.width,
            height=facts.height,
            frames=facts.frames,
            fps=facts.fps,
            source=name.uri,
        )

    def take(self, asked: str) -> InputVideo:
        """Keep the video that a job id or an address names, and return it.

        Raises:
            BadRequest: It names no video.
            BadImage: The video is gone, or cannot be decoded.
            OutOfSpace: The disk is full.
        """
        video = self.look(asked)
        target, source = self._media.home / video.file, self._media.path(name_of_video(asked))
        with writing_to(target.parent):
            make_folder(target.parent)
            try:
                os.utime(target)  # it is wanted again: see `MediaStore.remove_unused_inputs`
            except FileNotFoundError:
                _copy(source, target, video.source)
        return video


def _copy(source: Path, target: Path, address: str) -> None:
    try:
        with open_result(source) as file, whole(target) as temporary, temporary.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except FileNotFoundError as error:
        raise BadImage(f"no result {address}; it may have been deleted") from error


def receipt_in(home: Path, video: InputVideo) -> dict[str, Any] | None:
    """Return the receipt of a kept video; None if it has none.

    Raises:
        JobFailed: The file is gone.
    """
    path = home / video.file
    if not path.is_file():
        raise _gone(video)
    return read_receipt(path)


def frames_of(home: Path, video: InputVideo) -> "Generator[NDArray[np.uint8]]":
    """Yield all frames of a kept video, some of shape (frames, height, width, 3) at a time.

    Raises:
        JobFailed: The file is gone, or has not the frames that it had.
    """
    path, count = home / video.file, 0
    if not path.is_file():
        raise _gone(video)
    with closing(decoded(path, (video.width, video.height))) as batches:
        for frames in batches:
            count += len(frames)
            yield frames
    if count != video.frames:
        raise JobFailed("input_missing", f"The video {video.source} cannot be read any more. Submit it again.")


def decoded(path: Path, size: tuple[int, int]) -> "Generator[NDArray[np.uint8]]":
    """Yield the frames of a video that we wrote, of `size` (width, height), as far as they can be decoded.

    Some come at a time, of shape (frames, height, width, 3).
    """
    import numpy as np

    width, height = size
    bytes_each = width * height * 3
    decode = ["-v", "error", "-i", f"file:{path.name}", "-map", "0:v:0", "-fps_mode", "passthrough"]
    scale = ["-vf", "scale=flags=accurate_rnd+full_chroma_int+bicubic", "-pix_fmt", "rgb24", "-f", "rawvideo", "-"]
    command = ffmpeg.command("-nostdin", *decode, *scale)
    with subprocess.Popen(
        command, env=child_environment(), cwd=path.parent, stdout=subprocess.PIPE, process_group=0
    ) as process:
        try:
            assert process.stdout is not None
            while data := process.stdout.read(bytes_each * BATCH):
                pixels = np.frombuffer(data[: len(data) // bytes_each * bytes_each], np.uint8)
                yield pixels.reshape(-1, height, width, 3)
        finally:
            process.kill()


def _gone(video: InputVideo) -> JobFailed:
    return JobFailed("input_missing", f"The video {video.source} is no longer in the home folder. Submit it again.")


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
