"""Files that a caller names by path: read only if they really lie in an allowed folder.

A path is opened first and checked afterwards, by what was opened: between a check of the path and its opening, a link
could be put in its place.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["NotAllowed", "open_allowed", "open_result"]

OPEN_FILES = "/proc/self/fd"  # only Linux has it
OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
DELETED = " (deleted)"


class NotAllowed(Exception):
    """The path leads out of the allowed folders, whether or not there is a file."""


@contextmanager
def open_allowed(path: Path, folders: Iterable[Path] | None) -> Iterator[BinaryIO]:
    """Open a file of an allowed folder for reading; with None, of any folder. `path` is resolved.

    Raises:
        NotAllowed: it lies elsewhere, or might: it has another name and lies where others may put such names.
        OSError: it cannot be opened, or is not a regular file.
    """
    allowed = None if folders is None else [folder.resolve() for folder in folders]
    _require_inside(path, allowed)
    # Without waiting for the other end of a pipe, and without taking over a terminal.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            raise FileNotFoundError(errno.ENOENT, "it is not a file", str(path))
        place = _place_of(descriptor, path)
        _require_inside(place, allowed)
        if allowed is not None and about.st_nlink > 1 and place.parent.stat().st_mode & OTHERS_MAY_WRITE:
            raise NotAllowed
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def open_result(path: Path) -> BinaryIO:
    """Open a file of the media folder for reading.

    Raises:
        FileNotFoundError: there is none; a link is not a result, wherever it leads.
    """

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK)

    try:
        return open(path, "rb", opener=opener)  # Path.open takes no opener
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK, errno.EISDIR):
            raise FileNotFoundError(errno.ENOENT, "it is not a result", str(path)) from error
        raise


def _require_inside(path: Path, allowed: list[Path] | None) -> None:
    if allowed is not None and not any(path.is_relative_to(folder) for folder in allowed):
        raise NotAllowed


def _place_of(descriptor: int, path: Path) -> Path:
    """Return the path of an open file, from the kernel where it tells."""
    with suppress(OSError):
        return Path(str(Path(OPEN_FILES, str(descriptor)).readlink()).removesuffix(DELETED))
    place = path.resolve()
    if not os.path.samestat(place.lstat(), os.fstat(descriptor)):
        raise NotAllowed
    return place
