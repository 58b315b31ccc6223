"""Write whole videos for tests, and read back what is in one."""

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wan_mcp.media import ffmpeg
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.jobs import Artifact

__all__ = ["CODECS", "VideoFacts", "encode", "greys", "probe", "read_frames", "write_video"]

CODECS = {
    "mp4": ["-c:v", "libx264", "-bf", "2"],
    "mov": ["-c:v", "libx265"],
    "mkv": ["-c:v", "mpeg4"],
    "webm": ["-c:v", "libvpx-vp9", "-deadline", "realtime"],
    "avi": ["-c:v", "mjpeg"],
}
"""Options of ffmpeg by the endings of files."""


@dataclass(frozen=True)
class VideoFacts:
    """Size, length and format of a video file."""

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
    frames: NDArray[np.uint8],
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


def probe(path: Path) -> VideoFacts:
    """Return size, length and format of a video, without decoding it.

    Raises:
        OSError: it cannot be read as a video.
    """
    said, packets = _read(path, "-c", "copy", "-f", "framecrc")
    frames = sum(not line.startswith(b"#") for line in packets.splitlines())
    return _facts(said, frames)


def read_frames(path: Path) -> NDArray[np.uint8]:
    """Return all frames of a video, of shape (frames, height, width, 3).

    Raises:
        OSError: it cannot be read as a video.
    """
    said, pixels = _read(path, "-f", "rawvideo", "-pix_fmt", "rgb24")
    facts = _facts(said, 0)
    return np.frombuffer(pixels, dtype=np.uint8).reshape(-1, facts.height, facts.width, 3)


def _read(path: Path, *output: str) -> tuple[str, bytes]:
    """Return what ffmpeg logs about a video, and its output for the first video stream."""
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


def greys(count: int = 7, width: int = 96, height: int = 64) -> NDArray[np.uint8]:
    """Frames of which frame i is all (20 + 30 i) in each channel."""
    return np.stack([np.full((height, width, 3), 20 + 30 * index, np.uint8) for index in range(count)])


def encode(file: Path, frames: NDArray[np.uint8], *options: str) -> Path:
    """Write frames as a file of the format that its ending says."""
    height, width = frames.shape[1:3]
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "8", "-i", "-"]
    command = ffmpeg.command("-v", "error", *source, *(options or CODECS[file.suffix[1:]]), "-y", str(file))
    subprocess.run(command, input=frames.tobytes(), check=True)
    return file
