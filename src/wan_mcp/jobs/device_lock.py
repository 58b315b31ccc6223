"""The lock that an engine holds on its device."""

from pathlib import Path

from filelock import FileLock, Timeout

from wan_mcp.errors import HomeUnusable
from wan_mcp.files import require_writable
from wan_mcp.jobs.rows import is_device_name
from wan_mcp.permissions import file_mode, make_folder

__all__ = ["engine_lock", "locked_devices"]


def engine_lock(home: Path, device: str) -> FileLock:
    """Return the lock that an engine for `device` holds while it runs.

    Raises:
        HomeUnusable: its folder cannot be made or may not be written.
    """
    folder = home / "engines"
    try:
        make_folder(folder)
        mode = file_mode(folder)
    except OSError as error:
        raise HomeUnusable(f"the folder {folder} cannot be created: {error.strerror}") from error
    file = folder / f"{_in_file_names(device)}.lock"
    require_writable(file)
    return FileLock(file, mode=mode, thread_local=False)


def _in_file_names(device: str, old: str = ":", new: str = "-") -> str:
    """Return a device's name as files are named, or the other way round; a machine's name keeps its dashes."""
    own, at, machine = device.partition("@")
    return f"{own.replace(old, new)}{at}{machine}"


def locked_devices(home: Path) -> list[str]:
    """Return the devices of this home whose locks are held at the moment, by whatever process."""
    found = []
    for file in sorted((home / "engines").glob("*.lock")):
        device = _in_file_names(file.stem, "-", ":")
        if not is_device_name(device):
            continue
        try:
            engine_lock(home, device).acquire(blocking=False).lock.release()
        except Timeout:
            found.append(device)
        except (HomeUnusable, OSError):  # it may not be opened by this user: nobody here can use it
            continue
    return found
