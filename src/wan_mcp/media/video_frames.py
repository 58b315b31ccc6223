"""Single frames of foreign videos, decoded by ffmpeg within bounds of memory and time.

The decoder is a separate process. It reads one file that is open here, with one of three demuxers and the decoders of
common codecs: playlists and other formats that name further files are no videos. Frames are counted as they are
decoded, so a header cannot lie about them.
"""

import os
import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import BinaryIO

from wan_mcp.child_environment import child_environment
from wan_mcp.errors import BadImage, JobFailed
from wan_mcp.media import ffmpeg
from wan_mcp.text import number, quoted

__all__ = ["FIRST", "HEAD_BYTES", "LAST", "Frame", "VideoFacts", "facts_of_video", "frame_of_video", "is_video"]

FIRST, LAST = "first", "last"
HEAD_BYTES = 16
"""Bytes of a file that `is_video` looks at."""
STILL_BRANDS = (b"avif", b"avis", b"mif1", b"msf1", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
"""Brands of ISO media files that are images: https://mp4ra.org/registered-types/brands."""
MAX_PIXELS = 4096 * 2304  # of a frame: what is larger than 4K takes more memory than the decoder may have
MEMORY_BYTES = 1_000_000_000  # of the decoder's address space: 10-bit HEVC of 4K takes 0.9 GB of it
DECODE_S = 30.0
SAID_BYTES = 65_536  # of what ffmpeg says
DECODERS = (
    "h264,hevc,mpeg4,mpeg2video,mpeg1video,mjpeg,prores,ffv1,png,rawvideo,vp8,vp9,libvpx,libvpx-vp9,libdav1d,"
    "libaom-av1,av1"
)
STREAM = re.compile(rb"Stream #0:\d+[^\n]*: Video: (?P<about>[^\n]*?, (?P<width>\d+)x(?P<height>\d+)[^\n]*)")
RATE = re.compile(rb", ([\d.]+) fps")
COUNTED = re.compile(rb"^frame=(\d+)\s*$", re.MULTILINE)
HDR = (b"smpte2084", b"arib-std-b67")
NO_MEMORY = (b"Cannot allocate memory", b"Resource temporarily unavailable", b"malloc")


@dataclass(frozen=True)
class Frame:
    """One frame of a video."""

    png: bytes
    index: int
    """Its number, from 0."""


@dataclass(frozen=True)
class VideoFacts:
    """What there is in a video, as it is decoded."""

    width: int
    height: int
    frames: int
    fps: float


def is_video(head: bytes) -> bool:
    """Check whether a file that begins with these bytes is a video of a supported format."""
    return _demuxer(head) is not None


def _demuxer(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return None if head[8:12] in STILL_BRANDS else "mov"
    if head[4:8] in (b"moov", b"mdat", b"wide"):  # QuickTime before it had brands
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    return "avi" if head[:4] == b"RIFF" and head[8:12] == b"AVI " else None


def frame_of_video(file: BinaryIO, frame: str, max_pixels: int, notes: list[str]) -> Frame:
    """Return a frame of an open file, which `is_video`: "first", "last", or its number.

    Numbers count from 0, negative ones from the end: -1 is the last frame. What of the picture was lost is added to
    `notes`.

    Raises:
        BadImage: There is no such frame, or the video cannot be decoded within the bounds; the message says which.
    """
    video = _Video(file, min(max_pixels, MAX_PIXELS))
    video.check(notes)
    count = None
    index = {FIRST: 0, LAST: -1}.get(frame)
    if index is None:
        index = int(frame)
    if index < 0:
        count = video.count()
        if count + index < 0:
            raise _no_frame(frame, count)
        index += count
    png = video.png(index)
    if png is None:
        raise _no_frame(frame, video.count() if count is None else count)
    notes += video.notes
    return Frame(png, index)


def facts_of_video(file: BinaryIO, max_pixels: int) -> VideoFacts:
    """Return the size, the length and the rate of an open video file; its frames are counted by decoding them.

    Raises:
        BadImage: It cannot be decoded within the bounds; the message says why.
    """
    video = _Video(file, min(max_pixels, MAX_PIXELS))
    about = video.check([])
    rate = RATE.search(about["about"])
    return VideoFacts(int(about["width"]), int(about["height"]), video.count(), float(rate[1]) if rate else 0.0)


def _no_frame(frame: str, count: int) -> BadImage:
    if count == 0:
        return BadImage("the video has no frame that can be decoded")
    many = f"{count} frames: 0 to {count - 1}, or from the end -{count} to -1" if count > 1 else "one frame: 0"
    return BadImage(f"the video has no frame {quoted(frame)}; it has {many}")


class _Video:
    """One video file, and how ffmpeg is asked about it."""

    def __init__(self, file: BinaryIO, max_pixels: int) -> None:
        self._file, self._max_pixels = file, max_pixels
        self.notes: list[str] = []
        demuxer = _demuxer(os.pread(file.fileno(), HEAD_BYTES, 0))
        assert demuxer is not None
        # By its descriptor: paths are for nobody else to read, and another file could be put in its place.
        self._input = [
            *("-protocol_whitelist", "file", "-codec_whitelist", DECODERS, "-threads", "1"),
            *("-max_pixels", str(max_pixels), "-f", demuxer, "-i", f"file:/dev/fd/{file.fileno()}"),
        ]
        self._stream = ["-map", "0:v:0", "-an", "-sn", "-dn", "-fps_mode", "passthrough", "-threads", "1"]

    def check(self, notes: list[str]) -> re.Match[bytes]:
        """Return what ffmpeg says of the video stream; refuse a file without one, and frames that are too large."""
        said = self._run("-v", "info", *self._input)[1]
        found = STREAM.search(said)
        if found is None:
            self._require_memory(said)
            raise BadImage("the video has no video stream that can be read")
        width, height = int(found["width"]), int(found["height"])
        if width * height > self._max_pixels:
            raise BadImage(
                f"the video has {width}x{height} pixels; the limit is {self._max_pixels / 1e6:.3g} megapixels. "
                "Scale it down, or send the frame as an image"
            )
        if any(word in found["about"] for word in HDR):
            notes.append("the video is HDR; its colours were taken as SDR")
        return found

    def count(self) -> int:
        """Return the number of frames, all decoded."""
        out, _ = self._decode("-progress", "pipe:1", *self._input, *self._stream, "-f", "null", "-")
        counts = COUNTED.findall(out)
        return int(counts[-1]) if counts else 0

    def png(self, index: int) -> bytes | None:
        """Return a frame as a PNG; None if there are not so many."""
        chosen = f"select=eq(n\\,{index}),scale=flags=accurate_rnd+full_chroma_int+bicubic"
        picture = ("-vf", chosen, "-frames:v", "1", "-pix_fmt", "rgb24", "-c:v", "png", "-f", "image2pipe", "-")
        out, _ = self._decode(*self._input, *self._stream, *picture)
        return out or None

    def _decode(self, *arguments: str) -> tuple[bytes, bytes]:
        out, said = self._run("-v", "error", *arguments)
        self._require_memory(said)
        if said and not self.notes:
            self.notes.append("the video is damaged; frames that cannot be decoded are not counted")
        return out, said

    def _require_memory(self, said: bytes) -> None:
        if any(words in said for words in NO_MEMORY):
            raise BadImage("decoding the video needs too much memory; scale it down, or send the frame as an image")

    def _run(self, *arguments: str) -> tuple[bytes, bytes]:
        """Run ffmpeg within the bounds; return its output, and what it says."""
        try:
            command = ffmpeg.command("-nostdin", *arguments)
        except JobFailed as error:
            raise BadImage(str(error)) from error
        with tempfile.TemporaryFile() as said:
            with subprocess.Popen(
                command,
                env=child_environment(),
                pass_fds=[self._file.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                process_group=0,
            ) as process:
                try:
                    _bound(process.pid)
                    out, _ = process.communicate(timeout=DECODE_S)
                except subprocess.TimeoutExpired as error:
                    raise BadImage(
                        f"the video takes more than {number(DECODE_S)} s to decode up to that frame; cut it shorter, "
                        "or send the frame as an image"
                    ) from error
                finally:
                    process.kill()
            if process.returncode < 0:  # by a signal: at its bounds, or it crashed
                raise BadImage(
                    "the decoder failed on the video, which is broken or needs too much memory or time; convert it to "
                    "MP4, or send the frame as an image"
                )
            return out, os.pread(said.fileno(), SAID_BYTES, 0)


def _bound(pid: int) -> None:
    """Limit the memory, the time and the files of a process that has just started."""
    import resource

    if hasattr(resource, "prlimit"):  # only Linux has it; elsewhere the size of frames is the bound
        limits = (
            (resource.RLIMIT_AS, MEMORY_BYTES),
            (resource.RLIMIT_CPU, int(DECODE_S) + 1),
            (resource.RLIMIT_FSIZE, 16 * SAID_BYTES),
        )
        for limit, most in limits:
            try:
                resource.prlimit(pid, limit, (most, most))
            except ProcessLookupError:  # it has ended already
                return
