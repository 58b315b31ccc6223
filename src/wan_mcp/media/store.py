"""Where media files lie, under which ids, and how they come to be there whole.

A result is `media/<kind>s/<job id>-<i>.<ext>`; job ids cannot be guessed, so neither can these.
A file is written under a temporary name and renamed when it is whole and on the disk.
"""

import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from wan_mcp.errors import BadRequest, OutOfSpace
from wan_mcp.schema.enums import Kind

__all__ = ["MediaName", "MediaStore", "whole"]

EXTENSIONS = {Kind.VIDEO: "mp4", Kind.IMAGE: "png"}
MIME_TYPES = {Kind.VIDEO: "video/mp4", Kind.IMAGE: "image/png"}
PARTIAL = ".part"
FULL = (errno.ENOSPC, errno.EDQUOT)
ADDRESS = re.compile(r"wan://(?P<folder>video|image)s/(?P<id>[0-9a-z]{20}-[0-9]{1,3})\.(?P<extension>mp4|png)")


@dataclass(frozen=True)
class MediaName:
    """The name of one result."""

    kind: Kind
    id: str

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
        """The name of result `index` (from 0) of a job."""
        return cls(kind, f"{job_id}-{index}")

    @classmethod
    def parse(cls, uri: str) -> "MediaName":
        """The name behind a wan:// address.

        Raises:
            BadRequest: it is not an address of a video or an image.
        """
        match = ADDRESS.fullmatch(uri)
        kind = Kind(match["folder"]) if match else None
        if match is None or kind is None or match["extension"] != EXTENSIONS[kind]:
            raise BadRequest(f"'{uri[:100]}' is no wan:// address of a result; they look like wan://images/<id>.png")
        return cls(kind, match["id"])


class MediaStore:
    """The media folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "media"

    def path(self, name: MediaName) -> Path:
        """Where the file is, or will be."""
        return self._folder / f"{name.kind}s" / name.file_name

    def sheet(self, name: MediaName) -> Path:
        """The contact sheet of a video: a small JPEG of some of its frames, for whoever cannot play it."""
        return self.path(name).with_suffix(".sheet.jpg")

    def poster(self, name: MediaName) -> Path:
        """The first frame of a video as a JPEG."""
        return self.path(name).with_suffix(".poster.jpg")

    @property
    def inputs(self) -> Path:
        """Where input pictures are kept."""
        return self._folder / "inputs"

    def free_mb(self) -> float:
        """Free disk space in MB."""
        self.home.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(self.home).free / 1e6

    def sweep(self) -> None:
        """Remove what killed writers left half-done; a temporary name carries its writer's pid."""
        for file in self._folder.glob(f"*/.*{PARTIAL}"):
            writer = file.name.split(".")[-2]
            if not (writer.isdigit() and psutil.pid_exists(int(writer))):
                file.unlink(missing_ok=True)


@contextmanager
def whole(target: Path) -> Iterator[Path]:
    """Write a file so that nobody ever sees a part of it under its name.

    Gives the temporary path to write to; when the block ends well, the file is synced and renamed
    to `target`, else it is removed.

    Raises:
        OutOfSpace: the disk is full.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two threads may write the same target; `sweep` looks for the pid.
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.{os.getpid()}{PARTIAL}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.errno in FULL:
            raise OutOfSpace(f"no space left on the disk of {target.parent}; free some and try again") from error
        raise
    finally:
        temporary.unlink(missing_ok=True)
