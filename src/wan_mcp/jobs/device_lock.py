"""The lock that an engine holds on its device."""

from pathlib import Path

from filelock import FileLock

from wan_mcp.errors import HomeUnusable

__all__ = ["engine_lock"]


def engine_lock(home: Path, device: str) -> FileLock:
    """Return the lock that an engine for `device` holds while it runs.

    Raises:
        HomeUnusable: its folder cannot be made.
    """
    folder = home / "engines"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise HomeUnusable(f"the folder {folder} cannot be created: {error.strerror}") from error
    return FileLock(folder / f"{device.replace(':', '-')}.lock", thread_local=False)
