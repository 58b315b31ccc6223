"""The media folder: file names and ids of results, and atomic writes.

A result is `media/<kind>s/<job id>-<i>.<ext>`; job ids cannot be guessed, so neither can these.
A file is written under a temporary name and renamed when it is whole and on the disk.
"""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from wan_mcp.errors import BadRequest
from wan_mcp.files import atomic_file, require_writable, sweep_stale, writing_to
from wan_mcp.permissions import make_folder
from wan_mcp.schema.enums import Kind
from wan_mcp.text import quoted

__all__ = ["CONVERSIONS", "EXTENSIONS", "MIME_TYPES", "MediaName", "MediaStore", "whole"]

RESULT = re.compile(r"(?P<job>[0-9a-z]{20})-[0-9]{1,3}\.")
JOB_ID = re.compile(r"[0-9a-z]{20}")
INPUT = re.compile(r"inputs/([0-9a-f]{64})\.(?:png|mp4)")
INPUT_KEPT_S = 86_400.0
"""How long an ingested image is kept that no job has: the job that it was taken for may be about to be queued."""

EXTENSIONS = {Kind.VIDEO: "mp4", Kind.IMAGE: "png"}
MIME_TYPES = {Kind.VIDEO: "video/mp4", Kind.IMAGE: "image/png"}
CONVERSIONS: dict[Kind, dict[str, str]] = {
    Kind.VIDEO: {".gif": "image/gif", ".webm": "video/webm", ".webp": "image/webp"},
    Kind.IMAGE: {".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"},
}
"""The endings of what each kind of result is converted to, with their media types."""
PICTURES = re.compile(r"wan://videos/(?P<id>[0-9a-z]{20}-[0-9]{1,3})\.(?P<what>sheet|poster)\.jpg")
"""The addresses of a video's small pictures."""
ADDRESS = re.compile(r"wan://(?P<folder>video|image)s/(?P<id>[0-9a-z]{20}-[0-9]{1,3})(?P<ending>\.[0-9a-z]{3,4})")


@dataclass(frozen=True)
class MediaName:
    """The name of one result."""

    kind: Kind
    id: str

    @property
    def job_id(self) -> str:
        """The id of the job that has made it."""
        return self.id.partition("-")[0]

    @property
    def file_name(self) -> str:
        """The name of its file."""
        return f"{self.id}.{EXTENSIONS[self.kind]}"

    @property
    def uri(self) -> str:
        """Its address over MCP."""
        return f"wan://{self.kind}s/{self.file_name}"

    @property
    def mime_type(self) -> str:
        """Its media type."""
        return MIME_TYPES[self.kind]

    @classmethod
    def of(cls, job_id: str, index: int, kind: Kind) -> "MediaName":
        """Return the name of result `index` (from 0) of a job."""
        return cls(kind, f"{job_id}-{index}")

    @classmethod
    def parse(cls, uri: str) -> "MediaName":
        """Parse a wan:// address.

        Raises:
            BadRequest: It is not the address of a video or an image.
        """
        match = ADDRESS.fullmatch(uri)
        kind = Kind(match["folder"]) if match else None
        if match is None or kind is None or match["ending"] != f".{EXTENSIONS[kind]}":
            raise BadRequest(
                f"{quoted(uri)} is not the wan:// address of a result; they look like wan://images/<id>.png"
            )
        return cls(kind, match["id"])


class MediaStore:
    """The media folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "media"

    def path(self, name: MediaName) -> Path:
        """Return the path of the file, which may not exist yet."""
        return self._folder / f"{name.kind}s" / name.file_name

    def sheet(self, name: MediaName) -> Path:
        """Return the path of a video's contact sheet: a small JPEG of some of its frames."""
        return self.path(name).with_suffix(".sheet.jpg")

    def poster(self, name: MediaName) -> Path:
        """Return the path of a video's poster: its first frame as a JPEG."""
        return self.path(name).with_suffix(".poster.jpg")

    def find(self, address: str) -> tuple[Path, str]:
        """Return the path and the media type of a wan:// address: of a result, a conversion, or a sheet or poster.

        Raises:
            BadRequest: It is none of these.
        """
        if (match := PICTURES.fullmatch(address)) is not None:
            video = MediaName(Kind.VIDEO, match["id"])
            return (self.sheet if match["what"] == "sheet" else self.poster)(video), "image/jpeg"
        if (match := ADDRESS.fullmatch(address)) is not None:
            kind = Kind(match["folder"])
            if (media_type := CONVERSIONS[kind].get(match["ending"])) is not None:
                return self.path(MediaName(kind, match["id"])).with_suffix(match["ending"]), media_type
        name = MediaName.parse(address)
        return self.path(name), name.mime_type

    @staticmethod
    def name_of(path: Path) -> MediaName:
        """Return the result to which a file belongs that `find` has found."""
        return MediaName(Kind(path.parent.name.removesuffix("s")), path.name.partition(".")[0])

    def result_of(self, path: Path) -> Path | None:
        """Return the result that a path is a conversion of; None if it is a result, or a video's sheet or poster."""
        for kind, endings in CONVERSIONS.items():
            if path.parent == self._folder / f"{kind}s" and path.suffix in endings and "." not in path.stem:
                return path.with_suffix(f".{EXTENSIONS[kind]}")
        return None

    @property
    def inputs(self) -> Path:
        """The folder of the ingested images."""
        return self._folder / "inputs"

    def free_bytes(self) -> int:
        """Return the free disk space in bytes.

        Raises:
            HomeUnusable: the home folder cannot be made.
        """
        with writing_to(self.home):
            make_folder(self.home)
            return shutil.disk_usage(self.home).free

    def require_writable(self) -> None:
        """Check that images and results can be written.

        Raises:
            HomeUnusable: a folder may not be written; the message names it.
        """
        require_writable(self.inputs, *(self._folder / f"{kind}s" for kind in EXTENSIONS))

    def remove_results(self, job_id: str) -> None:
        """Remove the files of a job's results, with the small pictures of videos.

        Raises:
            HomeUnusable: a folder may not be written.
        """
        if not JOB_ID.fullmatch(job_id):  # a damaged row must not lead to other files
            return
        for kind in EXTENSIONS:
            folder = self._folder / f"{kind}s"
            with writing_to(folder):
                for file in folder.glob(f"{job_id}-*.*"):
                    file.unlink(missing_ok=True)

    def result_files(self) -> Iterator[tuple[str, os.DirEntry[str]]]:
        """Yield the files of all results, with what belongs to each, and the ids of their jobs."""
        for kind in EXTENSIONS:
            with suppress(FileNotFoundError), os.scandir(self._folder / f"{kind}s") as entries:
                for entry in entries:
                    if (match := RESULT.match(entry.name)) is not None and entry.is_file(follow_symlinks=False):
                        yield match["job"], entry

    def result_bytes(self) -> dict[str, int]:
        """Return how many bytes the files of each job's results take."""
        sizes: dict[str, int] = {}
        for job_id, entry in self.result_files():
            with suppress(FileNotFoundError):  # it has just been removed
                sizes[job_id] = sizes.get(job_id, 0) + entry.stat(follow_symlinks=False).st_size
        return sizes

    def remove_unused_inputs(self, plans: Callable[[], str], now: float) -> None:
        """Remove the ingested images and videos that no plan names, last taken long before `now` (Unix time).

        `plans` returns the plans of all jobs; it is called only if there is an old image.
        """
        inputs = [*self.inputs.glob("*.png"), *self.inputs.glob("*.mp4")]
        old = [file for file in inputs if _age(file, now) > INPUT_KEPT_S]
        if not old:
            return
        used = set(INPUT.findall(plans()))
        for file in old:
            if file.stem not in used:
                file.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the unfinished files of killed writers."""
        for folder in self._folder.glob("*/"):
            sweep_stale(folder)


def _age(file: Path, now: float) -> float:
    try:
        return now - file.stat().st_mtime
    except OSError:  # it has just been removed
        return 0.0


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Write a media file like `files.atomic_file`, durably.

    Raises:
        OutOfSpace: the disk is full.
        HomeUnusable: the media folder may not be written.
    """
    with writing_to(target.parent), atomic_file(target, durable=True, private=True) as temporary:
        yield temporary
