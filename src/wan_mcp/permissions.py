"""Who may use the home folder: its owner alone, or a group with which the owner shares it.

Modes are set, never left to the umask: folders of the home are 0700 and files 0600. A home whose owner has made it a
group's, with `chmod 2770` (the setgid bit and the group's right to write), is shared on purpose: what is made in it is
the group's too, and only all other users are shut out. See docs/decisions/0019-the-home-is-its-owners.md.
"""

import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from wan_mcp.errors import HomeUnusable, UserError

__all__ = ["append_to", "create_file", "file_mode", "make_folder", "open_home", "require_private", "set_modes"]

log = logging.getLogger(__name__)

FOLDER, FILE = 0o700, 0o600
GROUPS_FOLDER, GROUPS_FILE = 0o2770, 0o660
SHARED = stat.S_ISGID | stat.S_IWGRP
OTHERS, GROUP_AND_OTHERS = 0o007, 0o077
ROOT = 0
BY_OTHERS = 0o027
"""Rights of a key's group to write it, and of everybody else to anything."""
BY_ITS_GROUP = 0o040


def open_home(home: Path) -> None:
    """Create the home folder, or close an existing one to other users.

    An older version left the modes to the umask. Such a home is closed with everything in it, and links that another
    user has put into it are removed. What a link of the owner's points to keeps its modes.

    Raises:
        HomeUnusable: it cannot be created, or belongs to another user.
    """
    try:
        make_folder(home)
        about = home.stat()
    except OSError as error:
        raise HomeUnusable(
            f"the home folder {home} cannot be created or used ({error.strerror}); "
            "set WAN_MCP_HOME to a writable folder"
        ) from error
    if os.geteuid() not in (about.st_uid, ROOT):
        if about.st_uid != ROOT and not _is_shared(about.st_mode):
            raise HomeUnusable(
                f"the home folder {home} belongs to another user; set WAN_MCP_HOME to a folder of your own, or let its "
                "owner share it with a group of yours: chmod 2770"
            )
        return  # of a container's volume: only root may change it, and what is made in it is closed anyway
    closed = OTHERS if _is_shared(about.st_mode) else GROUP_AND_OTHERS
    if not _is_open(home, about.st_mode, closed):
        return
    with suppress(OSError):
        home.chmod(stat.S_IMODE(about.st_mode) & ~closed)
    if home.stat().st_mode & closed:  # a file system without modes, or one that may not be written
        log.warning("other users can use the home folder %s, and its disk does not let wan-mcp close it", home)
        return
    _close(home, closed, trusted={ROOT, os.geteuid(), about.st_uid})


def _is_open(home: Path, mode: int, closed: int) -> bool:
    """Check whether the home folder or anything directly in it is open to those who are to be shut out."""
    if mode & closed:
        return True
    with suppress(OSError), os.scandir(home) as entries:
        return any(not entry.is_symlink() and entry.stat(follow_symlinks=False).st_mode & closed for entry in entries)
    return False


def _close(home: Path, closed: int, trusted: set[int]) -> None:
    """Take the rights `closed` from everything below the home folder, which is itself closed already."""
    log.info("closing the home folder %s to other users", home)
    for place, folders, files, descriptor in os.fwalk(home):
        for name in (*folders, *files):
            with suppress(OSError):  # it has just been removed, or it is another user's
                about = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISLNK(about.st_mode):
                    if about.st_uid not in trusted:
                        os.unlink(name, dir_fd=descriptor)
                        log.warning("removed the link %s: another user had made it", Path(place, name))
                elif about.st_mode & closed:
                    _chmod(name, stat.S_IMODE(about.st_mode) & ~closed, descriptor)


def _chmod(name: str, mode: int, folder: int) -> None:
    """Change a mode through an open file, so that no link put in its place is followed."""
    file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        os.fchmod(file, mode)
    finally:
        os.close(file)


def make_folder(folder: Path) -> None:
    """Create a folder of the home, with its missing parents, for the owner or the owner's group.

    Raises:
        OSError: it cannot be created.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=FOLDER)
    except FileExistsError:
        if not folder.is_dir():
            raise
        return  # made by another process in the meantime
    folder.chmod(GROUPS_FOLDER if _is_shared(folder.parent.stat().st_mode) else FOLDER)


def file_mode(folder: Path) -> int:
    """Return the mode of new files in a folder of the home."""
    return GROUPS_FILE if _is_shared(folder.stat().st_mode) else FILE


def create_file(file: Path) -> None:
    """Create an empty file in the home, unless there is one, before a library opens it with other modes.

    Raises:
        OSError: it cannot be created.
    """
    with suppress(FileExistsError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE)
        try:
            os.fchmod(descriptor, file_mode(file.parent))
        finally:
            os.close(descriptor)


def append_to(file: Path) -> BinaryIO:
    """Open a file of the home for appending; create it and its folder if missing.

    Raises:
        OSError: it cannot be opened.
    """
    make_folder(file.parent)
    create_file(file)
    return file.open("ab")


def set_modes(path: Path, folder: Path) -> None:
    """Give a file, or a folder and all in it, the modes of what lies in `folder`, in which it is about to appear.

    Raises:
        OSError: a mode cannot be changed.
    """
    shared = _is_shared(folder.stat().st_mode)
    for each in (path, *path.rglob("*")):
        if each.is_dir() and not each.is_symlink():
            each.chmod(GROUPS_FOLDER if shared else FOLDER)
        elif not each.is_symlink():
            each.chmod(GROUPS_FILE if shared else FILE)


def require_private(key: Path) -> None:
    """Refuse a private key that other users can use. One of root's may be its group's, as where systems keep such keys.

    Raises:
        UserError: others can use it.
        OSError: it cannot be looked at.
    """
    status = key.stat()
    forbidden = BY_OTHERS if status.st_uid == ROOT else BY_OTHERS | BY_ITS_GROUP
    if status.st_mode & forbidden:
        raise UserError(f"other users of this machine can use the key {key}; run 'chmod 600 {key}'")


def _is_shared(mode: int) -> bool:
    return mode & SHARED == SHARED
