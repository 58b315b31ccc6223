"""Videos as files: frames to an mp4 that plays everywhere, and what can be read back from one.

numpy and Pillow are imported where they are used, so that a front may import this module. Knows no torch.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.media import ffmpeg
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.specs import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VideoFacts", "probe", "read_frames", "read_receipt", "write_video"]


@dataclass(frozen=True)
class VideoFacts:
    """What is in a video file."""

    width: int
    height: int
    frames: int
    fps: float
    """To two decimals."""
    codec: str
    pixel_format: str


def write_video(
    media: MediaStore,
    name: MediaName,
    frames: "NDArray[np.uint8]",
    fps: float,
    receipt: Mapping[str, Any],
    seed: int,
) -> Artifact:
    """Write frames of shape (frames, height, width, 3) as H.264, with a poster and a contact sheet beside them.

    Raises:
        OutOfSpace: the disk is full.
        JobFailed: ffmpeg cannot write the video; with its reason.
    """
    count, height, width = frames.shape[:3]
    writer = VideoWriter(media, name, (width, height), count, fps, receipt)
    try:
        writer.add(frames)
    except BaseException:
        writer.abandon()
        raise
    return writer.finish(seed)


def read_receipt(path: Path) -> dict[str, Any] | None:
    """The receipt in an mp4 of ours; None if it carries none."""
    run = ffmpeg.run("-v", "error", "-i", os.fspath(path), "-f", "ffmetadata", "-")
    text = run.stdout.decode(errors="replace")
    # https://ffmpeg.org/ffmpeg-formats.html#Metadata-1: '=', ';', '#', '\' and newlines are escaped by '\'.
    found = re.search(r"^comment=((?:\\.|[^\\\n])*)$", text, re.MULTILINE | re.DOTALL)
    if found is None:
        return None
    try:
        receipt = json.loads(re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL))
    except ValueError:
        return None
    return receipt if isinstance(receipt, dict) else None


def probe(path: Path) -> VideoFacts:
    """Size, length and format of a video, without decoding it.

    Raises:
        OSError: it cannot be read as a video.
    """
    said, packets = _read(path, "-c", "copy", "-f", "framecrc")
    frames = sum(not line.startswith(b"#") for line in packets.splitlines())
    return _facts(said, frames)


def read_frames(path: Path) -> "NDArray[np.uint8]":
    """All frames of a video, of shape (frames, height, width, 3).

    Raises:
        OSError: it cannot be read as a video.
    """
    import numpy as np

    said, pixels = _read(path, "-f", "rawvideo", "-pix_fmt", "rgb24")
    facts = _facts(said, 0)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, facts.height, facts.width, 3)


def _read(path: Path, *output: str) -> tuple[str, bytes]:
    """What ffmpeg says of a video, and what it makes of its first video stream."""
    run = ffmpeg.run("-i", os.fspath(path), "-map", "0:v:0", *output, "-")
    said = run.stderr.decode(errors="replace")
    if run.returncode != 0:
        raise OSError(f"{path} cannot be read as a video: {said.strip().splitlines()[-1]}")
    return said, run.stdout


def _facts(said: str, frames: int) -> VideoFacts:
    # e.g. "Stream #0:0(und): Video: h264 (High) (avc1 / …), yuv420p(tv, bt709, progressive), 128x128, 8 fps, 8 tbr"
    found = re.search(r"Video: (\w+).*?, (\w+)[(,].*?, (\d+)x(\d+).*?, ([\d.]+) fps", said)
    if found is None:
        raise OSError("ffmpeg does not say what is in the video")
    codec, pixel_format, width, height, rate = found.groups()
    return VideoFacts(int(width), int(height), frames, float(rate), codec, pixel_format)
