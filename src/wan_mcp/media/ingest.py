"""Ingestion of input images: found, bounded, decoded safely, and stored.

What an engine reads later is our own PNG copy under its content's hash, so a job does not depend
on a file that may change, and no second decoder ever sees foreign bytes.
"""

import os
import re
import shutil
import struct
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from wan_mcp.errors import BadImage
from wan_mcp.files import writing_to
from wan_mcp.media.decode import decode_to_png
from wan_mcp.media.kept_uris import KeptUris
from wan_mcp.media.local_files import NotAllowed, open_allowed, open_result
from wan_mcp.media.sources import MISSING_HEAD, data_of_uri, is_base64_of_image, path_of_file_uri, scheme_of
from wan_mcp.media.store import MediaName, MediaStore, whole
from wan_mcp.media.video_frames import FIRST, HEAD_BYTES, LAST, frame_of_video, is_video
from wan_mcp.permissions import make_folder
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.plans import DATA_URI, InputImage
from wan_mcp.text import escaped, in_bytes, quoted

__all__ = ["InputImages"]

PATH_SHOWN = 200  # characters of a path in an error
MAX_PATH_LENGTH = 4096  # characters: PATH_MAX on Linux
INPUT_ADDRESS = re.compile(r"wan://inputs/([0-9a-f]{64})\.png")
"""The address of an image that came in an earlier request."""
LITERAL = re.compile(r"""^['"]|^\$|^[A-Za-z]:[\\/]|\\\\|^~[^/]""")
"""Spellings of paths that shells or Windows understand, and that are names of files here."""


class InputImages:
    """Ingests images into the home folder."""

    def __init__(
        self,
        media: MediaStore,
        folders: Iterable[Path],
        max_mb: float,
        max_megapixels: float,
        *,
        any_folder: bool = False,
        uris: KeptUris | None = None,
    ) -> None:
        """Read images from any folder with `any_folder`, for a person at their own command line.

        `uris` has the data URIs that fronts keep elsewhere than in the request.
        """
        self._uris = uris
        self._media = media
        self._folders = tuple(folders)
        self._max_bytes = int(max_mb * 1e6)
        self._max_pixels = int(max_megapixels * 1e6)
        self._any_folder = any_folder

    def open_folders(self, folders: Iterable[Path]) -> None:
        """Read images from further folders as well."""
        self._folders = tuple(dict.fromkeys((*self._folders, *folders)))

    def take(
        self, source: str, notes: list[str] | None = None, frame: str | None = None, default_frame: str = FIRST
    ) -> InputImage:
        """Ingest an image from a local path, a file URI, a wan:// address of an earlier result, or a data URI.

        It may be a video: `frame` is "first", "last", or a number from 0, negative ones from the end. Without it,
        `default_frame` is taken. What of the image was left out or converted is added to `notes`, in sentences.

        Raises:
            BadImage: It is missing, outside the allowed folders, too large, or not an image; the message says which.
                Or it has no such frame.
            OutOfSpace: The disk is full.
        """
        wanted = _Wanted(frame, default_frame, [] if notes is None else notes)
        source = source if self._uris is None else self._uris.restore(source)
        return self._keep(*self._read(source, wanted), wanted)

    def look(
        self, source: str, notes: list[str] | None = None, frame: str | None = None, default_frame: str = FIRST
    ) -> InputImage:
        """Return what `take` would, and write nothing into the home; raises the same."""
        wanted = _Wanted(frame, default_frame, [] if notes is None else notes, is_kept=False)
        data, origin = self._read(source if self._uris is None else self._uris.restore(source), wanted)
        return self._measured(data, origin, wanted)

    def take_data(
        self, data: bytes, notes: list[str] | None = None, frame: str | None = None, default_frame: str = FIRST
    ) -> InputImage:
        """Ingest the bytes of an image or video file that a caller has sent; as `take` otherwise."""
        wanted = _Wanted(frame, default_frame, [] if notes is None else notes)
        return self._keep(self._sent(data, wanted), DATA_URI, wanted)

    def look_at_data(
        self, data: bytes, notes: list[str] | None = None, frame: str | None = None, default_frame: str = FIRST
    ) -> InputImage:
        """Return what `take_data` would, and write nothing into the home; raises the same."""
        wanted = _Wanted(frame, default_frame, [] if notes is None else notes, is_kept=False)
        return self._measured(self._sent(data, wanted), DATA_URI, wanted)

    def _sent(self, data: bytes, wanted: "_Wanted") -> bytes:
        if len(data) > self._max_bytes:
            raise self._too_many_bytes(len(data))
        return self._picture_in(data, wanted)

    def taken(self, sha256: str) -> InputImage:
        """Return an image that was ingested before, by its hash.

        Raises:
            BadImage: There is none.
        """
        file = self._media.inputs / f"{sha256}.png"
        try:
            with file.open("rb") as png:
                head = png.read(24)
            os.utime(file)  # it is wanted: see `MediaStore.remove_unused_inputs`
            width, height = struct.unpack(">II", head[16:24])  # of our own PNGs: signature, IHDR, width, height
        except (OSError, struct.error) as error:
            raise BadImage("the picture is no longer here; send it again") from error
        return self._image(sha256, width, height, DATA_URI)

    def _read(self, source: str, wanted: "_Wanted") -> tuple[bytes, str]:
        match scheme_of(source):
            case "data":
                data = data_of_uri(source, self._max_bytes)
                if data is None or len(data) > self._max_bytes:
                    raise self._too_many_bytes(len(source) * 3 // 4 if data is None else len(data))
                return self._picture_in(data, wanted), DATA_URI
            case "wan":
                address = "wan" + source.strip()[len("wan") :]  # the scheme in lower case
                if (copy := INPUT_ADDRESS.fullmatch(address)) is not None:
                    return self._from_copy(f"{copy[1]}.png", address, wanted)
                return self._from_result(MediaName.parse(address), address, wanted)
            case "file":
                return self._from_path(path_of_file_uri(source), wanted)
            case scheme if scheme and source.strip()[len(scheme) :].startswith("://"):
                raise BadImage(f"image URLs are not supported{_by_whom(scheme)}; use a local path or a data URI")
        if is_base64_of_image(source):
            raise BadImage(f"the image looks like base64 without a head; {MISSING_HEAD}")
        return self._from_path(source, wanted)

    def _from_result(self, name: MediaName, origin: str, wanted: "_Wanted") -> tuple[bytes, str]:
        try:
            if name.kind is Kind.VIDEO and (poster := self._poster(name, wanted)) is not None:
                return poster, origin
            with open_result(self._media.path(name)) as file:
                if name.kind is Kind.VIDEO:
                    return self._frame(file, wanted), origin
                wanted.require_none()
                return file.read(), origin
        except FileNotFoundError as error:
            raise BadImage(f"no result {name.uri}; it may have been deleted") from error

    def _poster(self, name: MediaName, wanted: "_Wanted") -> bytes | None:
        """Return the first frame of a result, which is kept as it was before it was encoded, if that one is wanted."""
        if wanted.frame not in (FIRST, "0"):
            return None
        try:
            with open_result(self._media.poster(name)) as file:
                picture = file.read()
        except FileNotFoundError:
            return None
        wanted.found(0)
        return picture

    def _frame(self, file: BinaryIO, wanted: "_Wanted") -> bytes:
        found = frame_of_video(file, wanted.frame, self._max_pixels, wanted.notes)
        wanted.found(found.index)
        return found.png

    def _picture_in(self, data: bytes, wanted: "_Wanted") -> bytes:
        """Return the bytes of an image as they are, or the wanted frame of a video."""
        if not is_video(data[:HEAD_BYTES]):
            wanted.require_none()
            return data
        folder = self._media.inputs if wanted.is_kept else None
        with ExitStack() as ends:
            with writing_to(folder or Path(tempfile.gettempdir())):
                if folder is not None:
                    make_folder(folder)
                file = ends.enter_context(tempfile.TemporaryFile(dir=folder))
                file.write(data)
                file.flush()
            return self._frame(file, wanted)

    def _from_copy(self, name: str, origin: str, wanted: "_Wanted") -> tuple[bytes, str]:
        wanted.require_none()
        try:
            with open_result(self._media.inputs / name) as file:
                return file.read(), origin
        except FileNotFoundError as error:
            raise BadImage(f"no image {origin}; it may have been deleted") from error

    def _from_path(self, source: str, wanted: "_Wanted") -> tuple[bytes, str]:
        if len(source) > MAX_PATH_LENGTH:  # resolving it would take hours
            raise BadImage(f"the image is a text of {len(source)} characters, which is neither a path nor a URI")
        shown = quoted(source, PATH_SHOWN)
        try:
            # Only one's own home: what `~name` stands for would say who has an account here.
            path = (Path(source).expanduser() if source == "~" or source.startswith("~/") else Path(source)).resolve()
            with open_allowed(path, None if self._any_folder else [*self._folders, self._media.home / "media"]) as file:
                if (video := self._video_of(path)) is not None:
                    return self._from_result(video, str(path), wanted)
                if is_video(os.pread(file.fileno(), HEAD_BYTES, 0)):
                    return self._frame(file, wanted), escaped(str(path))
                wanted.require_none()
                if (size := os.fstat(file.fileno()).st_size) > self._max_bytes:
                    raise self._too_many_bytes(size)
                data = file.read(self._max_bytes + 1)  # it may grow meanwhile
            if len(data) > self._max_bytes:
                raise self._too_many_bytes(len(data))
            return data, escaped(str(path))
        except NotAllowed as error:
            folders = ", ".join(map(str, self._folders)) or "none, only results of earlier jobs"
            raise BadImage(
                f"the image is outside the allowed folders ({folders}){_how_read(source)}; "
                "copy it into one, send it as a data URI, or add its folder to WAN_MCP_IMAGE_DIRS"
            ) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise BadImage(f"no file {shown}{_how_read(source)}") from error
        except (OSError, ValueError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or "not a usable path"
            raise BadImage(f"the file {shown} cannot be read: {reason}") from error

    def _video_of(self, path: Path) -> MediaName | None:
        """Return the video that this file is the result of, None if it is not one of ours."""
        name = MediaName(Kind.VIDEO, path.stem)
        return name if path == self._media.path(name).resolve() else None

    def _too_many_bytes(self, size: int) -> BadImage:
        return BadImage(f"the image has {in_bytes(size)}; the limit is {in_bytes(self._max_bytes)}")

    def _keep(self, data: bytes, origin: str, wanted: "_Wanted") -> InputImage:
        folder = self._media.inputs
        # Its name is its hash, which is known when it is written. A nameless file leaves nothing if this process dies.
        with writing_to(folder):
            make_folder(folder)
            with tempfile.TemporaryFile(dir=folder) as png:
                digest, width, height = decode_to_png(data, png, self._max_pixels, wanted.notes)
                file = folder / f"{digest}.png"
                if not _taken_again(file):
                    png.seek(0)
                    with whole(file) as temporary, temporary.open("wb") as copy:
                        shutil.copyfileobj(png, copy)
        return self._image(digest, width, height, origin, wanted.index)

    def _measured(self, data: bytes, origin: str, wanted: "_Wanted") -> InputImage:
        with tempfile.TemporaryFile() as png:
            digest, width, height = decode_to_png(data, png, self._max_pixels, wanted.notes)
        return self._image(digest, width, height, origin, wanted.index)

    def _image(self, sha256: str, width: int, height: int, source: str, frame: int | None = None) -> InputImage:
        file = (self._media.inputs / f"{sha256}.png").relative_to(self._media.home)
        return InputImage(sha256=sha256, file=str(file), width=width, height=height, source=source, frame=frame)


class _Wanted:
    """The frame that is wanted if the image is a video, and which one it was."""

    def __init__(self, asked: str | None, default: str, notes: list[str], *, is_kept: bool = True) -> None:
        self._asked, self.notes, self.is_kept = asked, notes, is_kept
        self.frame = asked or default
        self.index: int | None = None

    def require_none(self) -> None:
        """Refuse a frame of what is not a video.

        Raises:
            BadImage: One was asked for.
        """
        if self._asked is not None:
            raise BadImage(
                f"frame {quoted(self._asked)} was asked for, and the image is not a video (supported: MP4, MOV, WebM, "
                "MKV, AVI); omit frame, or name a video"
            )

    def found(self, index: int) -> None:
        """Note which frame it is."""
        self.index = index
        named = {FIRST: "the first", LAST: "the last"}.get(self.frame)
        self.notes.append(f"frame {index}{f' ({named})' if named else ''} of the video is used")


def _by_whom(scheme: str) -> str:
    if scheme in ("http", "https"):
        return " by this server, whose owner can allow them with WAN_MCP_IMAGE_URLS"
    return f" with {quoted(scheme)}"


def _taken_again(file: Path) -> bool:
    """Note that an image was taken that is here already, so that it is not removed as unused; False if it is not."""
    try:
        os.utime(file)
    except FileNotFoundError:
        return False
    return file.is_file()


def _how_read(source: str) -> str:
    """Return how a path was understood, where that may not be what was meant."""
    if LITERAL.search(source):
        return "; it was read as it is written: quotes, $VARIABLES, ~name and drive letters are not expanded"
    return "" if Path(source).is_absolute() or source.startswith("~/") else "; use an absolute path"
