"""The weights on this machine, checked without a network: cheap enough for every list of models.

A load looks at each file's size and time of writing: that finds what was cut off, replaced or
edited, and costs a millisecond, where hashing a hundred gigabytes would cost minutes. A file
whose time differs but whose size is right is hashed then; `wan-mcp pull --verify` hashes all.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.files import sha256_of, sha256_of_listing, size_of
from wan_mcp.weights.download_progress import Download, Tally
from wan_mcp.weights.lockfile import WeightsLock
from wan_mcp.weights.repositories import sources

__all__ = ["ExtraFile", "InstalledWeights", "damaged_files", "discard", "installed_weights", "is_installed", "is_whole"]


@dataclass(frozen=True)
class ExtraFile:
    """A file of a model that comes from another repository."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class InstalledWeights:
    """Weights that are complete on this machine."""

    folder: Path
    """Laid out as the repository is."""
    commit: str
    fingerprint: str
    """SHA-256 over the names and hashes of all files."""
    extra_files: dict[tuple[str, str], ExtraFile] = field(default_factory=dict)
    """Adapters and GGUF files, by repository and path in it."""
    hashes: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of each file of its own repository, by path."""


def is_installed(manifest: Manifest, home: Path) -> bool:
    """Check whether a model can be loaded without a download."""
    return all(is_whole(source, home) for source in sources(manifest))


def is_whole(manifest: Manifest, home: Path) -> bool:
    """Check whether everything that a model needs from one of its sources is downloaded."""
    lock = WeightsLock.read(manifest, home)
    return lock is not None and all(size_of(lock.folder / path) == file.size for path, file in lock.files.items())


def installed_weights(
    manifest: Manifest, home: Path, tell: Callable[[str, Download], None] = lambda path, read: None
) -> InstalledWeights | None:
    """Return a hub model's weights, if they match their lock; None if files are missing.

    `tell` is called repeatedly with the file being read, and with the progress over all such files.

    Raises:
        WeightsUnavailable: a file was changed since it was checked.
    """
    wanted = sources(manifest)
    whole = [lock for source in wanted if (lock := _whole(source, home)) is not None]
    if not whole or len(whole) < len(wanted):
        return None
    tally = Tally(sum(lock.files[path].size for lock in whole for path in _written_anew(lock)))
    pairs = zip(wanted, whole, strict=True)
    own, *others = [_checked(source, lock, home, tally, tell) for source, lock in pairs]
    extra_files = {
        (lock.repository, path): ExtraFile(lock.folder / path, file.sha256)
        for lock in others
        for path, file in lock.files.items()
    }
    hashes = {path: file.sha256 for path, file in own.files.items()}
    return InstalledWeights(own.folder, own.commit, _fingerprint(own, extra_files), extra_files, hashes)


def _whole(manifest: Manifest, home: Path) -> WeightsLock | None:
    """Return the lock of one source, if all its files are downloaded."""
    return WeightsLock.read(manifest, home) if is_whole(manifest, home) else None


def _written_anew(lock: WeightsLock) -> list[str]:
    """Return the files written since their download: copied, or changed."""
    return [path for path, file in lock.files.items() if _mtime(lock.folder / path) != file.mtime_ns]


def _checked(
    manifest: Manifest, lock: WeightsLock, home: Path, tally: Tally, tell: Callable[[str, Download], None]
) -> WeightsLock:
    """Return the lock of one source after checking each of its files."""
    damaged = []
    for path in _written_anew(lock):
        file, mtime = lock.files[path], _mtime(lock.folder / path)

        def read(count: int, path: str = path) -> None:
            tally.came(count)
            tell(path, tally.look())

        if sha256_of(lock.folder / path, read) == file.sha256:
            lock = lock.model_copy(update={"files": lock.files | {path: file.model_copy(update={"mtime_ns": mtime})}})
            lock.write(manifest, home)  # at once: a stop now need not repeat the reading of this file
        else:
            damaged.append(path)
    if damaged:
        raise WeightsUnavailable(
            "weights_changed",
            f"The weights of '{manifest.name}' differ from the download: {', '.join(damaged)} changed on this "
            f"machine. 'wan-mcp pull {manifest.name} --verify' restores them.",
        )
    return lock


def damaged_files(lock: WeightsLock, tell: Callable[[str], None]) -> list[str]:
    """Return the files that do not match the lock, after reading all; `tell` is called with each file's path."""
    damaged = []
    for path, file in lock.files.items():
        tell(path)
        if size_of(lock.folder / path) != file.size or sha256_of(lock.folder / path) != file.sha256:
            damaged.append(path)
    return damaged


def discard(lock: WeightsLock, damaged: Iterable[str]) -> None:
    """Remove damaged files from the cache, so that the next fetch downloads them again.

    What the cache's files link to stays: in a store that repositories share, it may be another one's, too.
    """
    for path in damaged:
        place = lock.folder / path
        if place.is_symlink():
            (place.parent / place.readlink()).unlink(missing_ok=True)
        place.unlink(missing_ok=True)


def _fingerprint(lock: WeightsLock, extra_files: dict[tuple[str, str], ExtraFile]) -> str:
    own = [(path, lock.files[path].sha256) for path in sorted(lock.files)]
    others = [
        (f"{repository} {path}", extra_files[repository, path].sha256) for repository, path in sorted(extra_files)
    ]
    return sha256_of_listing(own + others)


def _mtime(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
