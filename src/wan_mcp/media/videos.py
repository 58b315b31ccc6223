"""Videos as files: frames to an mp4 that plays everywhere, and what can be read back from one.

The mp4 carries its receipt, a JSON object that says how it was made, in the comment of its
metadata. The same frames and receipt give the same bytes. ffmpeg comes with imageio-ffmpeg; numpy
and Pillow are imported where they are used, so that a front may import this module. Knows no torch.
"""

import io
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wan_mcp.errors import JobFailed, OutOfSpace
from wan_mcp.media.sheets import contact_sheet
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.specs import Artifact

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VideoFacts", "probe", "read_frames", "read_receipt", "write_video"]

SMALL_PIXELS = 320 * 320  # up to this size bytes cost nothing, and every block artefact shows
POSTER_QUALITY = 95  # a poster is also taken as an input picture
COLOURS = "bt709"
NO_SPACE = ("No space left on device", "Disk quota exceeded")


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

    The mp4 gets its name last: whoever sees it finds the other two as well.

    Raises:
        OutOfSpace: the disk is full.
        JobFailed: ffmpeg cannot write the video; with its reason.
    """
    from PIL import Image

    path = media.path(name)
    count, height, width = frames.shape[:3]
    with whole(path) as temporary:
        _encode(frames, fps, json.dumps(receipt, ensure_ascii=False, sort_keys=True), temporary)
        poster = io.BytesIO()
        Image.fromarray(frames[0]).save(poster, "JPEG", quality=POSTER_QUALITY, subsampling=0)
        for side, data in ((media.poster(name), poster.getvalue()), (media.sheet(name), contact_sheet(frames, fps))):
            with whole(side) as part:
                part.write_bytes(data)
    return Artifact(
        uri=name.uri,
        mime_type=name.mime_type,
        bytes=path.stat().st_size,
        width=width,
        height=height,
        frames=count,
        fps=fps,
        duration_s=round(count / fps, 3),
        seed=seed,
        path=str(path),
    )


def _encode(frames: "NDArray[np.uint8]", fps: float, comment: str, target: Path) -> None:
    import numpy as np

    _, height, width = frames.shape[:3]
    small = width * height <= SMALL_PIXELS
    # The thread count is part of what x264 makes of the frames: fixed, so that any machine gives the same bytes.
    effort = ("12", "slow", "1") if small else ("17", "fast", "8")
    rate = Fraction(fps).limit_denominator(1001)
    arguments = [
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"),
        # Say which RGB → YUV matrix is used: unsaid, players guess by size and colours shift.
        *("-vf", f"scale=out_color_matrix={COLOURS}:out_range=tv:flags=accurate_rnd+full_chroma_int+bicubic"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", effort[0], "-preset", effort[1], "-threads", effort[2]),
        *("-colorspace", COLOURS, "-color_primaries", COLOURS, "-color_trc", COLOURS, "-color_range", "tv"),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart"),
        *("-metadata", f"comment={comment}", "-f", "mp4", "-y", os.fspath(target)),
    ]
    run = _ffmpeg(arguments, np.ascontiguousarray(frames).data.cast("B"))
    if run.returncode != 0:
        said = run.stderr.decode(errors="replace")
        if any(words in said for words in NO_SPACE):
            raise OutOfSpace(f"no space left on the disk of {target.parent}; free some and try again")
        last = said.strip().splitlines()[-1] if said.strip() else f"exit code {run.returncode}"
        raise JobFailed("write_failed", f"The video could not be written: {last}")


def _ffmpeg(arguments: list[str], data: memoryview | None = None) -> subprocess.CompletedProcess[bytes]:
    from imageio_ffmpeg import get_ffmpeg_exe

    try:
        executable = get_ffmpeg_exe()
    except RuntimeError as error:
        raise JobFailed(
            "no_ffmpeg", "There is no ffmpeg for this system; install one, or name it in IMAGEIO_FFMPEG_EXE."
        ) from error
    command = [executable, "-hide_banner", "-nostats", *(() if data else ("-nostdin",)), *arguments]
    # In a process group of its own, so that a Ctrl-C in an engine's terminal is the engine's to answer.
    return subprocess.run(command, input=data, capture_output=True, check=False, process_group=0)


def read_receipt(path: Path) -> dict[str, Any] | None:
    """The receipt in an mp4 of ours; None if it carries none."""
    run = _ffmpeg(["-v", "error", "-i", os.fspath(path), "-f", "ffmetadata", "-"])
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
    run = _ffmpeg(["-i", os.fspath(path), "-map", "0:v:0", *output, "-"])
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
