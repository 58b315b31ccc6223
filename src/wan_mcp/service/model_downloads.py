"""Downloads of models that a person has asked for outside of jobs: each in a thread, with its progress and its end.

The bytes that have come stay on the disk when a download stops, and the next one begins there.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest, DownloadNotAllowed, UserError, WeightsUnavailable
from wan_mcp.service.needed_download import may_agree, needed_download, require_consent
from wan_mcp.settings import Settings
from wan_mcp.text import first_line
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.installed import is_installed

__all__ = ["DownloadState", "ModelDownload", "ModelDownloads"]

log = logging.getLogger(__name__)


class DownloadState(StrEnum):
    """The states of a download."""

    COMING = "coming"
    STOPPING = "stopping"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """True if nothing comes any more."""
        return self in (DownloadState.DONE, DownloadState.STOPPED, DownloadState.FAILED)


@dataclass(frozen=True)
class ModelDownload:
    """A download and how far it is."""

    model: str
    state: DownloadState
    done_bytes: int = 0
    total_bytes: int = 0
    """0 until the hub has said."""
    rate: float | None = None
    """Bytes per second, of the last seconds."""
    eta_s: float | None = None
    note: str = ""
    error: str | None = None
    code: str | None = None


class _Stopped(Exception):
    """Raised into a download that is to stop."""


class ModelDownloads:
    """The downloads of one front."""

    def __init__(self, settings: Settings, on_change: Callable[[ModelDownload], None]) -> None:
        """Start empty; `on_change` is called in a download's thread, several times a second."""
        self._settings, self._on_change = settings, on_change
        self._lock = threading.Lock()
        self._downloads: dict[str, ModelDownload] = {}
        self._stopping: set[str] = set()

    def all(self) -> list[ModelDownload]:
        """Return the downloads, ended ones included until the model is asked for again."""
        with self._lock:
            return list(self._downloads.values())

    def start(self, manifest: Manifest) -> ModelDownload:
        """Begin to download a model's weights, unless that is under way: all of them, if the caller may agree to that.

        Raises:
            BadRequest: There is nothing to download.
            DownloadNotAllowed: The caller may start none, or none of this size.
        """
        if is_installed(manifest, self._settings.home):
            raise BadRequest(f"'{manifest.name}' is on this machine already")
        limit = None
        if not may_agree(self._settings):
            require_consent(needed_download(manifest, self._settings))
            if not self._settings.auto_download:
                raise DownloadNotAllowed(f"only the user of this server's home may download '{manifest.name}'")
            limit = self._settings.max_download_bytes
        with self._lock:
            found = self._downloads.get(manifest.name)
            if found is not None and not found.state.final:
                return found
            self._stopping.discard(manifest.name)
            self._downloads[manifest.name] = begun = ModelDownload(manifest.name, DownloadState.COMING)
        # A daemon thread: a read that hangs must not keep the process.
        threading.Thread(target=self._run, args=(manifest, limit), name=f"get-{manifest.name}", daemon=True).start()
        return begun

    def stop(self, model: str) -> ModelDownload:
        """Stop a download within about a second.

        Raises:
            BadRequest: None is under way.
        """
        with self._lock:
            found = self._downloads.get(model)
            if found is None or found.state.final:
                raise BadRequest(f"no download of '{model}' is under way here")
            self._stopping.add(model)
            self._downloads[model] = stopping = replace(found, state=DownloadState.STOPPING)
        self._on_change(stopping)
        return stopping

    def stop_all(self) -> None:
        """Stop all downloads: the front ends."""
        with self._lock:
            self._stopping.update(self._downloads)

    def under_way(self, model: str) -> bool:
        """Check whether a model is being downloaded here."""
        with self._lock:
            found = self._downloads.get(model)
            return found is not None and not found.state.final

    def _run(self, manifest: Manifest, limit: int | None) -> None:
        name = manifest.name

        def tell(download: Download) -> None:
            if name in self._stopping:
                raise _Stopped
            self._note(
                name,
                done_bytes=download.done,
                total_bytes=download.total,
                rate=download.rate,
                eta_s=download.eta_s,
                note=download.note,
            )

        try:
            fetch(manifest, self._settings.home, tell, reserve=self._settings.min_free_bytes, limit=limit)
            self._note(name, state=DownloadState.DONE, rate=None, eta_s=None, note="")
        except _Stopped:
            self._note(name, state=DownloadState.STOPPED, rate=None, eta_s=None, note="")
        except UserError as error:
            code = error.code if isinstance(error, WeightsUnavailable) else "refused"
            self._note(name, state=DownloadState.FAILED, rate=None, eta_s=None, error=str(error), code=code)
        except Exception as error:
            log.exception("the download of %s failed", name)
            self._note(
                name, state=DownloadState.FAILED, rate=None, eta_s=None, error=first_line(error), code="internal"
            )

    def _note(self, model: str, **changes: object) -> None:
        with self._lock:
            before = self._downloads[model]
            kept = {} if "state" in changes else {"state": before.state}
            after = replace(before, **(changes | kept))  # type: ignore[arg-type]
            self._downloads[model] = after
        if after != before:
            self._on_change(after)
