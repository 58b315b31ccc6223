"""The removal of a model's weights from this machine: its locks, and the files that no other model here has locked."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.weights.lockfile import WeightsLock
from wan_mcp.weights.repositories import sources

__all__ = ["bytes_of", "remove_weights"]


def bytes_of(manifest: Manifest, home: Path) -> int:
    """Return the bytes of a model's weights on this machine, shared files included."""
    return sum(file.size for lock in _locks(manifest, home) for file in lock.files.values())


def remove_weights(manifest: Manifest, home: Path, others: Iterable[Manifest]) -> int:
    """Remove a model's weights and return the bytes that became free; `others` are all models that may share files.

    The locks go first: a removal that is cut short leaves a model that is not installed, never half of one.

    Raises:
        OSError: a file cannot be removed.
    """
    locks = _locks(manifest, home)
    shared = {
        file
        for other in others
        if other.name != manifest.name
        for lock in _locks(other, home)
        for path in lock.files
        for file in (lock.folder / path, _content(lock.folder / path))
    }
    for source in sources(manifest):
        WeightsLock.remove(source, home)
    freed = 0
    for lock in locks:
        for path, locked in lock.files.items():
            place = lock.folder / path
            content = _content(place)
            if place in shared or content in shared:
                continue
            if content.exists():
                freed += locked.size
            content.unlink(missing_ok=True)
            place.unlink(missing_ok=True)
            _remove_empty(place.parent, lock.folder)
    return freed


def _locks(manifest: Manifest, home: Path) -> list[WeightsLock]:
    return [lock for source in sources(manifest) if (lock := WeightsLock.read(source, home)) is not None]


def _content(place: Path) -> Path:
    """Return the file that a place in a snapshot links to."""
    return place.resolve()


def _remove_empty(folder: Path, top: Path) -> None:
    """Remove folders that became empty, up to the snapshot's own."""
    with suppress(OSError):  # it is not empty
        while folder == top or top in folder.parents:
            folder.rmdir()
            folder = folder.parent
