"""Writing of videos: frames are encoded while later ones are still generated.

The mp4 carries its receipt, a JSON object that says how it was made, in the comment of its metadata, and says that it
was generated. The same frames and receipt give the same bytes, in however many batches the frames come.
"""

import io
import json
import queue
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from wan_mcp.child_environment import child_environment
from wan_mcp.errors import JobFailed, OutOfSpace
from wan_mcp.media import ffmpeg
from wan_mcp.media.contact_sheet import chosen_frames, contact_sheet
from wan_mcp.media.generated_mark import XMP, append_xmp_to_mp4
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.schema.jobs import Artifact
from wan_mcp.text import last_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VideoWriter"]

SMALL_PIXELS = 320 * 320  # up to this size bytes cost nothing, and every block artefact shows
POSTER_QUALITY = 95  # a poster is also taken as an input picture
COLOURS = "bt709"
TAGS = f"setparams=color_primaries={COLOURS}:color_trc={COLOURS}:colorspace={COLOURS}:range=tv"
WAITING = 2  # batches of frames that may wait for the encoder
NO_SPACE = ("No space left on device", "Disk quota exceeded")


class _Abandoned(Exception):
    """An internal signal that removes an unfinished file."""


class VideoWriter:
    """A writer of one video: ffmpeg encodes in a separate process while further frames are generated.

    The mp4 gets its name last, so its poster and its contact sheet exist by then. A writer ends by
    `finish` or by `abandon`, from any thread; the other methods are one thread's at a time.
    """

    def __init__(
        self,
        media: MediaStore,
        name: MediaName,
        size: tuple[int, int],
        count: int,
        fps: float,
        receipt: Mapping[str, Any],
    ) -> None:
        """Start a video of `count` frames of `size` (width, height) in pixels.

        Raises:
            OutOfSpace: the disk is full.
            JobFailed: there is no ffmpeg.
        """
        self._media, self._name, self._fps, self._count, self._size = media, name, fps, count, size
        self._path = media.path(name)
        self._shown: dict[int, Any] = dict.fromkeys(chosen_frames(count))
        self._came = 0
        self._queue: queue.Queue[memoryview | None] = queue.Queue(WAITING)
        self._broken = threading.Event()
        self._open = ExitStack()
        with ExitStack() as ends:
            self._temporary = temporary = ends.enter_context(whole(self._path))
            self._said = ends.enter_context(tempfile.TemporaryFile())
            # A file without a name: every user of the machine can read the command line.
            metadata = ends.enter_context(tempfile.TemporaryFile())
            metadata.write(ffmpeg.metadata(json.dumps(receipt, ensure_ascii=False, sort_keys=True)))
            metadata.seek(0)
            command = ffmpeg.command(*_encoding(size, fps, metadata.fileno(), temporary.name))
            # In a separate process group, so that a Ctrl-C in an engine's terminal is the engine's to answer.
            self._process = subprocess.Popen(
                command,
                env=child_environment(),
                cwd=temporary.parent,  # paths are for nobody else to read either
                pass_fds=[metadata.fileno()],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                process_group=0,
            )
            self._open = ends.pop_all()
        self._thread = threading.Thread(target=self._feed, name="video", daemon=True)
        self._thread.start()

    def add(self, frames: "NDArray[np.uint8]") -> None:
        """Add the next frames, of shape (frames, height, width, 3); they must not be changed afterwards.

        Waits while more than `WAITING` such calls are ahead of the encoder.

        Raises:
            OutOfSpace: the disk is full.
            JobFailed: ffmpeg cannot write the video; with its reason.
        """
        import numpy as np

        if self._broken.is_set():
            self._end()
        for index, frame in enumerate(frames, start=self._came):
            if index in self._shown:
                self._shown[index] = frame.copy()
        self._came += len(frames)
        self._queue.put(np.ascontiguousarray(frames).data.cast("B"))

    def finish(self, seed: int) -> Artifact:
        """Finish the file after the last frame, and return its artifact.

        Raises:
            OutOfSpace: the disk is full.
            JobFailed: ffmpeg cannot write the video; with its reason.
        """
        import numpy as np
        from PIL import Image

        with self._open:
            try:
                self._queue.put(None)
                shown = np.stack(list(self._shown.values()))
                poster = io.BytesIO()
                Image.fromarray(shown[0]).save(poster, "JPEG", quality=POSTER_QUALITY, subsampling=0, xmp=XMP)
                sheet = contact_sheet(shown, self._fps, indices=list(self._shown))
                self._end()
                append_xmp_to_mp4(self._temporary)
                sides = {self._media.poster(self._name): poster.getvalue(), self._media.sheet(self._name): sheet}
                for side, data in sides.items():
                    with whole(side) as part:
                        part.write_bytes(data)
            finally:
                self._stop()
        width, height = self._size
        return Artifact(
            uri=self._name.uri,
            mime_type=self._name.mime_type,
            bytes=self._path.stat().st_size,
            width=width,
            height=height,
            frames=self._count,
            fps=self._fps,
            duration_s=round(self._count / self._fps, 3),
            seed=seed,
            path=str(self._path),
        )

    def abandon(self) -> None:
        """Stop and remove the unfinished file."""
        self._stop()
        with suppress(_Abandoned), self._open:
            raise _Abandoned

    def _feed(self) -> None:
        """Write frames to ffmpeg; once it has ended, discard the rest."""
        pipe = self._process.stdin
        assert pipe is not None
        while (data := self._queue.get()) is not None:
            if not self._broken.is_set():
                try:
                    pipe.write(data)
                except OSError:  # it has ended early: it says why
                    self._broken.set()
            del data
        with suppress(OSError):
            pipe.close()

    def _end(self) -> None:
        """Wait for ffmpeg, and raise the reason if it failed."""
        if self._broken.is_set():
            self._queue.put(None)
        self._thread.join()
        if self._process.wait() == 0 and not self._broken.is_set():
            return
        self._said.seek(0)
        said = self._said.read().decode(errors="replace")
        if any(words in said for words in NO_SPACE):
            raise OutOfSpace(f"no space left on the disk of {self._path.parent}; free some and try again")
        last = last_line(said.splitlines()) or f"ffmpeg exited with code {self._process.returncode}"
        raise JobFailed("write_failed", f"Cannot write the video: {last}")

    def _stop(self) -> None:
        """End ffmpeg and the thread, wherever they are."""
        if self._process.poll() is None:
            self._process.kill()
        while self._thread.is_alive():
            with suppress(queue.Full):
                self._queue.put(None, timeout=0.1)
            self._thread.join(0.1)
        self._process.wait()


def _encoding(size: tuple[int, int], fps: float, metadata: int, target: str) -> list[str]:
    """Return ffmpeg's arguments for raw frames on its standard input, and metadata in an open file."""
    width, height = size
    # The thread count is part of what x264 makes of the frames: fixed, so that any machine gives the same bytes.
    effort = ("12", "slow", "1") if width * height <= SMALL_PIXELS else ("17", "fast", "16")
    rate = Fraction(fps).limit_denominator(1001)
    return [
        *("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(rate), "-i", "-"),
        *("-f", "ffmetadata", "-i", f"pipe:{metadata}", "-map", "0:v", "-map_metadata", "1"),
        # Say which RGB → YUV matrix is used: unsaid, players guess by size and colours shift. From ffmpeg 9 on, tags
        # come from the frames, where `setparams` puts them; before, from the flags.
        *("-vf", f"scale=out_color_matrix={COLOURS}:out_range=tv:flags=accurate_rnd+full_chroma_int+bicubic,{TAGS}"),
        *("-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", effort[0], "-preset", effort[1], "-threads", effort[2]),
        *("-colorspace", COLOURS, "-color_primaries", COLOURS, "-color_trc", COLOURS, "-color_range", "tv"),
        *("-fflags", "+bitexact", "-flags:v", "+bitexact", "-movflags", "+faststart+write_colr"),
        *("-f", "mp4", "-y", f"file:{target}"),
    ]
