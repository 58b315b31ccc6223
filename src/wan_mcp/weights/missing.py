"""What a download of a model would bring, worked out without a network.

Files that the hub has listed (a download has begun, or has ended and files were lost since) are counted to the byte.
Before that, the manifest says how much the model has in all, and what the hub's cache already holds of it is taken off.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.weights.expected_files import ExpectedFile, ExpectedFiles
from wan_mcp.weights.hub import DEFAULT_REVISION, Hub, Listing, RemoteFile
from wan_mcp.weights.hub_cache import RepositoryCache
from wan_mcp.weights.installed import is_whole
from wan_mcp.weights.lockfile import LockedFile, WeightsLock
from wan_mcp.weights.repositories import sources
from wan_mcp.weights.selection import wanted_of

__all__ = ["bytes_missing", "missing_bytes"]


def missing_bytes(manifest: Manifest, home: Path, cache: Path | None = None) -> int:
    """Return the bytes that a model lacks on this machine; 0 for one that comes with the package.

    `cache` is another cache of the hub's files than the environment's.
    """
    wanted = sources(manifest)
    if all(is_whole(source, home) for source in wanted):
        return 0
    root = cache or Hub.from_environment().cache
    missing, unlisted, all_listed = 0, manifest.weights.disk_bytes, True
    for source in wanted:
        hub_cache, listed = RepositoryCache(root, source.weights.repository or ""), _listed(source, home)
        if listed:
            unlisted -= sum(file.size for file in listed)
            missing += 0 if is_whole(source, home) else bytes_missing(hub_cache, listed)
        else:
            all_listed = False
            unlisted -= sum(file.size for file in _here(source, hub_cache))
    return missing if all_listed else missing + max(0, unlisted)


def _listed(source: Manifest, home: Path) -> tuple[RemoteFile, ...]:
    """Return the files of a source, if the hub has listed them before."""
    files: Mapping[str, LockedFile | ExpectedFile] = {}
    if (lock := WeightsLock.read(source, home)) is not None:
        files = lock.files
    elif (expected := ExpectedFiles.read(source, home)) is not None:
        files = expected.files
    return tuple(RemoteFile(path, file.size, file.etag, None) for path, file in files.items())


def bytes_missing(cache: RepositoryCache, files: Iterable[RemoteFile]) -> int:
    """Return how many bytes of these files are not in the cache; the same content counts once."""
    contents = {file.etag: file for file in files}
    return sum(file.size - cache.bytes_here(file) for file in contents.values())


def _here(source: Manifest, cache: RepositoryCache) -> tuple[RemoteFile, ...]:
    """Return the wanted files that the cache holds of the revision that a first download asks for."""
    revision = source.weights.revision or DEFAULT_REVISION
    return wanted_of(source, Listing(cache.repository, revision, cache.files_of(revision)))
