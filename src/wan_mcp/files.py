"""Atomic writes of files and folders, and hashes of files.

A writer works in a scratch folder next to its target, `.NAME.TOKEN.part`, and locks that folder (flock) for as long as
it writes. The kernel drops the lock when the process ends, however it ends, so a scratch folder that can be locked has
no writer. That is true between processes and between containers, where a pid of one means nothing to the other, and
however long a write takes. Only where a file system has no locks does age decide.
"""

import errno
import fcntl
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wan_mcp.errors import HomeUnusable, OutOfSpace
from wan_mcp.permissions import make_folder, set_modes

__all__ = [
    "atomic_file",
    "atomic_folder",
    "is_disk_full",
    "link_or_copy",
    "not_writable",
    "pieces",
    "require_writable",
    "sha256_of",
    "sha256_of_listing",
    "size_of",
    "stale_in",
    "sweep_stale",
    "writing_to",
]

SCRATCH = re.compile(r"\..+\.[0-9a-f]{16}\.part")
FORMER_SCRATCH = re.compile(r"\..+\.([0-9a-f]{8}|([0-9a-f]{8}\.)?\d+)(\.part)?|\.tmp[A-Za-z0-9]{6}")
"""The names that 0.1.0, and safetensors on its behalf, gave unfinished files; their writers hold no lock."""
STALE_S = 3600.0
"""Age beyond which an unfinished file has no writer, where there is no lock to ask."""
UNFINISHED = "content.part"  # not the target's name or suffix: a recursive search must find whole files only
NAME_KEPT = 50  # characters of the target's name in its scratch folder's name: file systems limit the bytes
REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)
"""Errors that say that something cannot be written in a place, whatever the program does."""
FULL = (errno.ENOSPC, errno.EDQUOT)
PIECE_BYTES = 4 * 1024 * 1024


@contextmanager
def atomic_file(target: Path, *, durable: bool = False, private: bool = False, replace: bool = True) -> Iterator[Path]:
    """Write a file so that no part of it is ever seen under its name.

    Yields the path to write to, on the same disk; a program may write it by any means. If the block ends without an
    exception, the file gets its name, replacing one that had it; otherwise nothing is left. A `durable` file is on
    the disk before it gets its name, and its name is there when the block has ended. A `private` one gets the mode of
    the home's files. Missing parents are made.

    Raises:
        FileExistsError: without `replace`, something has that name by now.
        OSError: the folder cannot be written, or the disk is full.
    """
    folders = _to_sync(target.parent) if durable else []
    with _scratch(target, private=private) as scratch:
        file = scratch / UNFINISHED
        yield file
        if private:
            set_modes(file, target.parent)
        if durable:
            with file.open("rb+") as content:
                os.fsync(content.fileno())
        if replace:
            file.replace(target)
        else:
            _give_new_name(file, target)
        for folder in folders:
            _sync(folder)


def _to_sync(folder: Path) -> list[Path]:
    """Return the folders whose entries a new file in `folder` needs: it, and the parents of those that are missing."""
    folders = [folder]
    while not folders[-1].exists() and folders[-1] != folders[-1].parent:
        folders.append(folders[-1].parent)
    return folders


def _sync(folder: Path) -> None:
    """Write a folder's entries to the disk, where its file system can do that and this user may open it."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _give_new_name(file: Path, target: Path) -> None:
    """Rename a file unless something has the name, at whatever moment it came to be there."""
    try:
        os.link(file, target)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as exFAT: reserve the name first
        os.close(os.open(target, os.O_CREAT | os.O_EXCL))
        try:
            file.replace(target)
        except OSError:
            target.unlink()
            raise


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file another name, or where that cannot be, make a durable copy under that name.

    Raises:
        FileExistsError: something has the name by now.
        OSError: the folder cannot be written, or its disk is full.
    """
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:  # on another disk, or a file system without hard links
        if error.errno in (errno.ENOENT, *FULL):
            raise
        if os.path.lexists(target):  # before all is copied
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        with atomic_file(target, durable=True, replace=False) as file:
            shutil.copyfile(source, file)
        return
    _sync(target.parent)


@contextmanager
def atomic_folder(target: Path, *, private: bool = False) -> Iterator[Path]:
    """Write a folder so that no part of it is ever seen under its name.

    Yields the folder to fill. If the block ends without an exception, it gets its name; otherwise nothing is left.
    A `private` one gets the modes of the home's folders and files. Missing parent folders are made.

    Raises:
        OSError: there is a folder of that name that is not empty, it cannot be written, or the disk is full.
    """
    with _scratch(target, private=private) as scratch:
        yield scratch
        if private:
            set_modes(scratch, target.parent)
        scratch.rename(target)


@contextmanager
def _scratch(target: Path, *, private: bool) -> Iterator[Path]:
    """Make a folder next to `target` that is locked while the block runs, and removed after it."""
    if private:
        make_folder(target.parent)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
    scratch, lock = _locked_scratch(target, 0o700 if private else 0o777)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        os.close(lock)


def _locked_scratch(target: Path, mode: int) -> tuple[Path, int]:
    """Make a folder next to `target`; return it with the open file that locks it."""
    while True:
        scratch = target.with_name(f".{target.name[:NAME_KEPT]}.{secrets.token_hex(8)}.part")
        scratch.mkdir(mode)
        with suppress(FileNotFoundError):  # a sweep may come between any two of these calls
            lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX)
            if scratch.exists():
                return scratch, lock
            os.close(lock)


def sweep_stale(folder: Path) -> None:
    """Remove the unfinished files and folders in `folder` that have no writer, as far as this user may.

    Subfolders are not looked into.
    """
    with suppress(OSError):
        for file in list(folder.iterdir()):
            if SCRATCH.fullmatch(file.name):
                _if_unlocked(file, _remove)
            elif FORMER_SCRATCH.fullmatch(file.name) and _is_old(file):
                _remove(file)


def stale_in(folder: Path, *, former: bool = True) -> list[Path]:
    """Return what `sweep_stale` would remove; without `former`, only what has a name of this version."""
    stale: list[Path] = []
    with suppress(OSError):
        for file in sorted(folder.iterdir()):
            if SCRATCH.fullmatch(file.name):
                _if_unlocked(file, stale.append)
            elif former and FORMER_SCRATCH.fullmatch(file.name) and _is_old(file):
                stale.append(file)
    return stale


def _if_unlocked(scratch: Path, do: Callable[[Path], None]) -> None:
    """Call `do` with an unfinished folder that has no writer, while nobody can begin to write to it."""
    try:
        lock = os.open(scratch, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:  # its writer has just finished, or it belongs to another user
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stale = True
    except BlockingIOError:
        stale = False
    except OSError:  # a file system without locks
        stale = _is_old(scratch)
    if stale:
        do(scratch)  # still locked: a writer that has only just made it waits, and makes another
    os.close(lock)


def _is_old(file: Path) -> bool:
    """Check whether neither the file nor anything in the folder was written to recently."""
    newest = 0.0
    for each in (file, *file.rglob("*")):
        with suppress(OSError):
            newest = max(newest, each.lstat().st_mtime)
    return time.time() - newest > STALE_S


def _remove(file: Path) -> None:
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file, ignore_errors=True)
    else:
        with suppress(OSError):
            file.unlink()


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Say in words what keeps the block from writing to `folder`; other errors pass unchanged.

    Raises:
        OutOfSpace: the disk is full.
        HomeUnusable: the folder may not or cannot be written; the message names it.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error):
            raise OutOfSpace(f"no space left on the disk of {folder}; free some and try again") from error
        if error.errno in REFUSED:
            raise not_writable(folder, error.strerror) from error
        raise


def not_writable(folder: Path, why: str | None) -> HomeUnusable:
    """Return the error of a folder of the home that may not be written."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent  # it is the nearest folder that refuses to hold another
    return HomeUnusable(
        f"the folder {folder} may not be written ({why}); give the user who runs wan-mcp the right to write it, "
        "or set WAN_MCP_HOME to another folder"
    )


def require_writable(*paths: Path) -> None:
    """Check that files can be created in folders, or files written, that are there or are still to be made.

    Raises:
        HomeUnusable: one may not be written; the message names it.
    """
    for path in paths:
        place = path
        try:
            while not place.exists() and place != place.parent:
                place = place.parent
        except OSError as error:  # a folder that may not be searched
            raise not_writable(path.parent, error.strerror) from error
        if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
            raise not_writable(place, "permission denied")


def is_disk_full(error: OSError) -> bool:
    """Check whether an error means that a disk, or a user's quota on it, is full."""
    return error.errno in FULL


def pieces(file: Path) -> Iterator[bytes]:
    """Yield a file's bytes, a few MiB at a time."""
    with file.open("rb") as content:
        while piece := content.read(PIECE_BYTES):
            yield piece


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; None if there is none that can be read."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def sha256_of(file: Path, on_read: Callable[[int], None] = lambda count: None) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal.

    `on_read` is called with the number of bytes of each piece that was read; what it raises ends the reading.
    """
    digest = hashlib.sha256()
    for piece in pieces(file):
        on_read(len(piece))
        digest.update(piece)
    return digest.hexdigest()


def sha256_of_listing(hashes: Iterable[tuple[str, str]]) -> str:
    """Return one SHA-256 for many files: over lines of their names and hashes, in this order."""
    digest = hashlib.sha256()
    for name, sha256 in hashes:
        digest.update(f"{name} {sha256}\n".encode())
    return digest.hexdigest()
