"""The lock that an engine holds on its device."""

from pathlib import Path

from filelock import FileLock

from wan_mcp.errors import HomeUnusable
from wan_mcp.permissions import file_mode, make_folder

__all__ = ["engine_lock"]


def engine_lock(home: Path, device: str) -> FileLock:
    """Return the lock that an engine for `device` holds while it runs.

    Raises:
        HomeUnusable: its folder cannot be made.
    """
    folder = home / "engines"
    try:
        make_folder(folder)
        mode = file_mode(folder)
    except OSError as error:
        raise HomeUnusable(f"the folder {folder} cannot be created: {error.strerror}") from error
    return FileLock(folder / f"{device.replace(':', '-')}.lock", mode=mode, thread_local=False)
