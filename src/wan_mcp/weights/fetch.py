"""The download of a model's weights: only the required files, in parallel, after a check of the free space."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import WeightsUnavailable
from wan_mcp.text import in_bytes
from wan_mcp.weights.download import Transfer
from wan_mcp.weights.download_progress import Download, Tally
from wan_mcp.weights.download_rate import remember_rate
from wan_mcp.weights.expected_files import ExpectedFiles
from wan_mcp.weights.hub import DEFAULT_REVISION, Hub, Listing, RemoteFile
from wan_mcp.weights.hub_cache import RepositoryCache, free_bytes
from wan_mcp.weights.hub_errors import Patience, explain, hub_errors, patiently
from wan_mcp.weights.installed import is_whole
from wan_mcp.weights.lockfile import LockedFile, WeightsLock
from wan_mcp.weights.missing import bytes_missing
from wan_mcp.weights.parallel import side_by_side
from wan_mcp.weights.repositories import sources
from wan_mcp.weights.selection import wanted

__all__ = ["Fetch", "fetch", "news"]

T = TypeVar("T")

THREADS = 8


@dataclass(frozen=True)
class Fetch:
    """The result of a fetch."""

    lock: WeightsLock
    """Of the model's own repository."""
    came: int = 0
    """Bytes received from the hub."""
    notes: tuple[str, ...] = ()
    """Notes for the user, in sentences."""


def fetch(
    manifest: Manifest,
    home: Path,
    tell: Callable[[Download], None],
    *,
    hub: Hub | None = None,
    update: bool = False,
    reserve: int = 0,
    patience: Patience | None = None,
    limit: int | None = None,
) -> Fetch:
    """Download the missing files of a hub model's weights and lock them; use no network if none are missing.

    Repositories of adapters and GGUF files follow the model's own, one by one.

    Args:
        manifest: the model.
        home: where the lock file goes.
        tell: is called with the progress several times a second, in the calling thread. Whatever
            it raises stops the download within about a second; the downloaded bytes are kept for the next time.
        hub: another hub than the environment's.
        update: use the current commit of the manifest's revision, instead of the locked one.
        reserve: bytes of the disk that stay free.
        patience: how often a failing hub is asked again.
        limit: the most bytes that may be downloaded; None for any number.

    Raises:
        WeightsUnavailable: They cannot be downloaded; `code` and message say why and what to do.
        HomeUnusable: the lock file cannot be written.
    """
    hub, patience = hub or Hub.from_environment(), patience or Patience()
    if manifest.weights.repository is None:
        raise WeightsUnavailable("embedded", f"'{manifest.name}' comes with wan-mcp: there is nothing to pull.")
    # All are listed before anything is downloaded: a model that is too much brings nothing.
    looks = [_look(source, home, _Asker(source, hub, patience, tell, reserve), update) for source in sources(manifest)]
    _check_limit(manifest, sum(look.missing for look in looks if isinstance(look, _Look)), limit)
    began = time.monotonic()
    done = [look if isinstance(look, Fetch) else _bring(look, home) for look in looks]
    came = sum(one.came for one in done)
    remember_rate(home, came, time.monotonic() - began)
    notes = tuple(note for one in done for note in one.notes)
    return Fetch(done[0].lock, came, notes)


@dataclass(frozen=True)
class _Look:
    """What one repository has for a model."""

    asker: "_Asker"
    asked: str
    old: WeightsLock | None
    update: bool
    listing: Listing
    files: tuple[RemoteFile, ...]
    cache: RepositoryCache

    @property
    def missing(self) -> int:
        return bytes_missing(self.cache, self.files)


def _look(manifest: Manifest, home: Path, asker: "_Asker", update: bool) -> _Look | Fetch:
    """List the files of one repository; return what is here, if that is all."""
    old = WeightsLock.read(manifest, home)
    if old is not None and not update and is_whole(manifest, home):
        return Fetch(old)
    asked = (manifest.required_revision if update else manifest.weights.revision) or DEFAULT_REVISION
    listing = asker.list_files(asked if old is None or update else old.commit)
    files = wanted(manifest, listing)
    # Under the name that was asked for, where the hub's client looks for them after a renaming too.
    cache = RepositoryCache(asker.hub.cache, asker.repository)
    return _Look(asker, asked, old, update, listing, files, cache)


def _check_limit(manifest: Manifest, missing: int, limit: int | None) -> None:
    if limit is not None and missing > limit:
        raise WeightsUnavailable(
            "download_needs_consent",
            f"'{manifest.name}' needs a download of {in_bytes(missing)}, and the job was to download at most "
            f"{in_bytes(limit)} unasked. Download it with 'wan-mcp pull {manifest.name}', or ask for the job again "
            "with download=true.",
        )


def _bring(look: _Look, home: Path) -> Fetch:
    """Download what one repository has for a model, and lock it."""
    asker, manifest, listing, files, cache = look.asker, look.asker.manifest, look.listing, look.files, look.cache
    _check_space(manifest, files, cache, asker.reserve)
    if look.old is None:
        ExpectedFiles.of(manifest, files).write(manifest, home)
    hashes = asker.bring(files, listing, cache)
    with asker.explaining(look.asked):
        locked = {file.path: _locked(cache.link(file, listing.commit), file, hashes[file.path]) for file in files}
        if look.old is None or look.update:
            cache.name(look.asked, listing.commit)
    lock = WeightsLock(
        model=manifest.name,
        repository=asker.repository,
        revision=manifest.required_revision,
        patterns=manifest.weights.files,
        commit=listing.commit,
        folder=cache.snapshot(listing.commit).absolute(),
        files=locked,
    )
    lock.write(manifest, home)
    ExpectedFiles.remove(manifest, home)
    changed = _changed(look.old, listing, files, "is now") if look.old else []
    return Fetch(lock, asker.tally.came_so_far, tuple(_renamed(asker.repository, listing) + changed))


def news(manifest: Manifest, home: Path, *, hub: Hub | None = None, patience: Patience | None = None) -> list[str]:
    """Return upstream changes since a model was locked, in sentences; an empty list if there are none.

    Raises:
        WeightsUnavailable: The hub does not answer; `code` and message say why.
    """
    hub, patience = hub or Hub.from_environment(), patience or Patience()
    askers = [_Asker(source, hub, patience, lambda _: None) for source in sources(manifest)]
    return [sentence for asker in askers for sentence in _news(asker, home)]


def _news(asker: "_Asker", home: Path) -> list[str]:
    lock = WeightsLock.read(asker.manifest, home)
    if lock is None:
        return []
    listing = asker.list_files(asker.manifest.required_revision or DEFAULT_REVISION)
    return _renamed(asker.repository, listing) + _changed(lock, listing, wanted(asker.manifest, listing), "is upstream")


@dataclass
class _Asker:
    """The hub's client for one model, which translates errors."""

    manifest: Manifest
    hub: Hub
    patience: Patience
    tell: Callable[[Download], None]
    reserve: int = 0
    tally: Tally = field(default_factory=lambda: Tally(0))
    stop: threading.Event = field(default_factory=threading.Event)

    @property
    def repository(self) -> str:
        if self.manifest.weights.repository is None:
            raise WeightsUnavailable(
                "embedded", f"'{self.manifest.name}' comes with wan-mcp: there is nothing to pull."
            )
        return self.manifest.weights.repository

    def list_files(self, revision: str) -> Listing:
        def listing() -> Listing:
            return self.hub.list_files(self.repository, revision)

        def note(words: str) -> None:
            self.tally.note("", words)

        with self.explaining(revision):
            return self._beside([lambda: patiently(listing, self.patience, self.stop, note)])[0]

    def bring(self, files: Sequence[RemoteFile], listing: Listing, cache: RepositoryCache) -> dict[str, str]:
        """Download the files into the cache, and return the SHA-256 of each."""
        # The largest first, so that the last thread is not left alone with one; the same content comes once.
        contents = sorted({file.etag: file for file in files}.values(), key=lambda file: -file.size)
        here = [cache.bytes_here(file) for file in contents]
        self.tally = Tally(sum(file.size for file in contents))
        self.tally.here(sum(here))
        transfer = Transfer(
            self.hub, cache, listing.repository, listing.commit, self.tally, self.stop, self.patience, self.reserve
        )
        with self.explaining(listing.commit), _counted(self.tally, set(map(cache.blob, contents))):
            hashes = self._beside([partial(transfer.bring, *each) for each in zip(contents, here, strict=True)])
        of = {file.etag: sha256 for file, sha256 in zip(contents, hashes, strict=True)}
        return {file.path: of[file.etag] for file in files}

    def _beside(self, actions: Sequence[Callable[[], T]]) -> list[T]:
        return side_by_side(actions, THREADS, self.stop, lambda: self.tell(self.tally.look()))

    @contextmanager
    def explaining(self, revision: str) -> Iterator[None]:
        try:
            yield
        except hub_errors() as error:
            raise explain(error, self.manifest.name, self.repository, revision) from error


_UNDER_WAY: list[tuple[Tally, set[Path]]] = []


@contextmanager
def _counted(tally: Tally, blobs: set[Path]) -> Iterator[None]:
    """Reserve the space of this download's missing bytes against other downloads."""
    entry = tally, blobs
    _UNDER_WAY.append(entry)
    try:
        yield
    finally:
        _UNDER_WAY.remove(entry)


def _check_space(manifest: Manifest, files: Iterable[RemoteFile], cache: RepositoryCache, reserve: int) -> None:
    # An engine downloads several models at once, and two variants may want the same files.
    under_way = list(_UNDER_WAY)
    coming = sum(tally.left for tally, _ in under_way)
    by_others = {blob for _, blobs in under_way for blob in blobs}
    missing = sum(file.size - cache.bytes_here(file) for file in files if cache.blob(file) not in by_others)
    free = max(0, free_bytes(cache.root) - reserve - coming)
    if missing > free:
        raise WeightsUnavailable(
            "out_of_space",
            f"'{manifest.name}' needs {in_bytes(missing)} ({missing} bytes) more on the disk of {cache.root}, but only "
            f"{in_bytes(free)} are available: {missing - free} bytes are missing. Free some space, or set "
            "HF_HOME to a folder on a larger disk.",
        )


def _locked(place: Path, file: RemoteFile, sha256: str) -> LockedFile:
    return LockedFile(size=file.size, sha256=sha256, etag=file.etag, mtime_ns=place.stat().st_mtime_ns)


def _renamed(repository: str, listing: Listing) -> list[str]:
    if listing.repository == repository:
        return []
    return [f"{repository} was renamed to {listing.repository}; update 'repository' in the manifest."]


def _changed(lock: WeightsLock, listing: Listing, files: Iterable[RemoteFile], verb: str) -> list[str]:
    if listing.commit == lock.commit:
        return []
    what = "; ".join(lock.changes({file.path: file.etag for file in files})) or "none of the model's files changed"
    return [f"Commit {lock.commit[:12]} was locked, {listing.commit[:12]} {verb}: {what}."]
