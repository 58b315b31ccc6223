"""The hub client's cache of one repository: its documented layout, so that all programs share the files.

models--owner--name/blobs/ETAG            the content
models--owner--name/snapshots/COMMIT/PATH links to it
models--owner--name/refs/BRANCH           the commit that a branch was last
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from wan_mcp.files import atomic_file, size_of
from wan_mcp.weights.hub import RemoteFile

__all__ = ["RepositoryCache", "free_bytes"]

COMMIT = re.compile(r"^[0-9a-f]{40}$")


@dataclass(frozen=True)
class RepositoryCache:
    """The cached files of one repository."""

    root: Path
    """The cache of all repositories."""
    repository: str

    @property
    def folder(self) -> Path:
        """The folder of this repository."""
        return self.root / f"models--{self.repository.replace('/', '--')}"

    def snapshot(self, commit: str) -> Path:
        """Return the folder with the repository's tree at a commit."""
        return self.folder / "snapshots" / commit

    def blob(self, file: RemoteFile) -> Path:
        """Return the path of a file's complete content."""
        return self.folder / "blobs" / file.etag

    def partial(self, file: RemoteFile) -> Path:
        """Return the path of a file's first bytes until it is complete."""
        return self.folder / "blobs" / f"{file.etag}.wan-mcp.incomplete"

    def lock(self, file: RemoteFile) -> FileLock:
        """Return the lock that keeps two downloads of one file apart; the hub's client uses the same."""
        path = self.root / ".locks" / self.folder.name / f"{file.etag}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path, thread_local=False)

    def has(self, file: RemoteFile) -> bool:
        """Check whether a file's content is cached with all its bytes."""
        return size_of(self.blob(file)) == file.size

    def bytes_here(self, file: RemoteFile) -> int:
        """Return how many of a file's bytes are on disk."""
        return file.size if self.has(file) else min(file.size, size_of(self.partial(file)) or 0)

    def link(self, file: RemoteFile, commit: str) -> Path:
        """Link a complete file into the snapshot, and return its path there."""
        place, blob = self.snapshot(commit) / file.path, self.blob(file)
        if place.exists() and place.samefile(blob):
            return place
        with atomic_file(place) as fresh:
            try:
                fresh.symlink_to(os.path.relpath(blob, place.parent))
            except OSError:  # a file system without symbolic links
                fresh.hardlink_to(blob)
        return place

    def files_of(self, revision: str) -> tuple[RemoteFile, ...]:
        """Return the whole files that are here of a branch, tag or commit, by what this cache knows of it.

        Their `git_blob` is the name of their content, whichever hash that is.
        """
        commit = revision if COMMIT.match(revision) else _text(self.folder / "refs" / revision)
        if commit is None or not COMMIT.match(commit):
            return ()
        snapshot = self.snapshot(commit)
        places = sorted(snapshot.rglob("*")) if snapshot.is_dir() else []
        return tuple(
            RemoteFile(place.relative_to(snapshot).as_posix(), place.stat().st_size, place.resolve().name, None)
            for place in places
            if place.is_file()  # not a link whose content is gone
        )

    def name(self, revision: str, commit: str) -> None:
        """Record that a branch or tag points to this commit, as the hub's client does for offline use."""
        if COMMIT.match(revision):
            return
        with atomic_file(self.folder / "refs" / revision) as fresh:
            fresh.write_text(commit, encoding="ascii")


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def free_bytes(folder: Path) -> int:
    """Return the bytes that this user may still write to the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize
