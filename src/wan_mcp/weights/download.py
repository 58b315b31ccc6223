"""The download of one file from the hub into the cache: resumable, verified, and only then given its name."""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import Timeout

from wan_mcp.errors import WeightsUnavailable
from wan_mcp.files import pieces
from wan_mcp.weights.download_progress import Tally
from wan_mcp.weights.hub import Hub, RemoteFile
from wan_mcp.weights.hub_cache import RepositoryCache, free_bytes
from wan_mcp.weights.hub_errors import Patience, Stopped, empty_answer, passing_errors, pause

__all__ = ["Transfer"]

LOCK_LOOK_S = 0.2
ROOM_LOOK = 16 * 1024 * 1024  # bytes between two looks at the disk's room


class _Digest:
    """The hashes of a file's content as it arrives: our own, and the one that the hub names it by."""

    def __init__(self, file: RemoteFile) -> None:
        self._file = file
        self._sha256 = hashlib.sha256()
        self._git = None if file.sha256 else hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)

    def update(self, data: bytes) -> None:
        self._sha256.update(data)
        if self._git is not None:
            self._git.update(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def right(self) -> bool:
        """True if all of it arrived unchanged."""
        return (self._git or self._sha256).hexdigest() == self._file.etag


@dataclass(frozen=True)
class Transfer:
    """The download of a repository's files at a commit; `bring` may run in several threads."""

    hub: Hub
    cache: RepositoryCache
    repository: str
    """Its name today."""
    commit: str
    tally: Tally
    stop: threading.Event
    patience: Patience
    reserve: int = 0
    """Bytes that stay free on the disk, whatever else writes to it meanwhile."""

    def bring(self, file: RemoteFile, counted: int) -> str:
        """Download a file unless it is cached; return its SHA-256. The tally already counts `counted` of its bytes.

        Raises:
            Stopped: `stop` was set; the downloaded bytes are kept for the next time.
            WeightsUnavailable: It arrived damaged twice, or only the reserve is left on the disk.
            The client's errors, and OSError from the disk.
        """
        with self._alone(file):
            self.tally.here(self.cache.bytes_here(file) - counted)  # another process may have brought some since
            if self.cache.has(file):
                digest = self._read(file, self.cache.blob(file))
                if digest.right:
                    return digest.sha256
                self.cache.blob(file).unlink()
                self.tally.here(-file.size)
            for _ in range(2):
                digest = self._download(file)
                if digest.right:
                    return self._keep(file, digest)
                self.cache.partial(file).unlink()
                self.tally.here(-file.size)
        raise WeightsUnavailable(
            "download_corrupted",
            f"'{file.path}' of {self.repository} arrived damaged twice: it does not match the hub's hash. A proxy or a "
            "mirror (HF_ENDPOINT) changes it, or the disk is faulty. The file was discarded; try another network.",
        )

    @contextmanager
    def _alone(self, file: RemoteFile) -> Iterator[None]:
        """Hold the lock of this file against downloads in this process and others."""
        lock = self.cache.lock(file)
        while True:
            try:
                lock.acquire(timeout=LOCK_LOOK_S)
                break
            except Timeout:
                self.tally.note(file.path, "another process is downloading it")
                self._check()
        try:
            self.tally.note(file.path)
            yield
        finally:
            lock.release()

    def _check(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def _check_room(self) -> None:
        if free_bytes(self.cache.root) < self.reserve:
            raise WeightsUnavailable(
                "out_of_space",
                f"The disk of {self.cache.root} filled up while downloading {self.repository}. Free some space, or set "
                "HF_HOME to a folder on a larger disk; the next download resumes this one.",
            )

    def _read(self, file: RemoteFile, path: Path) -> _Digest:
        """Return the digest of the bytes on disk."""
        digest = _Digest(file)
        if path.stat().st_size:
            self.tally.note(file.path, f"checking {file.path}")
        for piece in pieces(path):
            self._check()
            digest.update(piece)
        self.tally.note(file.path)
        return digest

    def _download(self, file: RemoteFile) -> _Digest:
        """Download a file into its partial file, and return its digest."""
        partial = self.cache.partial(file)
        partial.parent.mkdir(parents=True, exist_ok=True)
        if partial.exists() and partial.stat().st_size > file.size:
            partial.unlink()
        failures = 0
        with partial.open("ab") as output:
            digest = self._read(file, partial)
            while output.tell() < file.size:
                self._check()
                before = output.tell()
                try:
                    digest = self._stream(file, output, digest)
                except passing_errors() as error:
                    failures = 1 if output.tell() > before else failures + 1
                    if not pause(error, failures, self.patience, self.stop, lambda w: self.tally.note(file.path, w)):
                        raise
        return digest

    def _stream(self, file: RemoteFile, output: BinaryIO, digest: _Digest) -> _Digest:
        """Append what the hub sends, and return the digest of the file so far."""
        began = output.tell()
        with self.hub.open(self.repository, self.commit, file.path, began) as response:
            if began and response.status_code != 206:  # it does not know ranges, and sends all of it again
                output.truncate(0)
                output.seek(0)
                self.tally.here(-began)
                digest = _Digest(file)
            for data in response.iter_bytes():
                self._check()
                if output.tell() // ROOM_LOOK != (output.tell() + len(data)) // ROOM_LOOK:
                    self._check_room()
                data = data[: file.size - output.tell()]
                output.write(data)
                digest.update(data)
                self.tally.came(len(data))
        if output.tell() < file.size and output.tell() == began:
            raise empty_answer(file.path)
        return digest

    def _keep(self, file: RemoteFile, digest: _Digest) -> str:
        with self.cache.partial(file).open("rb") as written:
            os.fsync(written.fileno())
        self.cache.partial(file).replace(self.cache.blob(file))
        return digest.sha256
