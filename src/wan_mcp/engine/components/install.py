"""Locate or download a model's weights, and identify them by their content."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.world import EMBEDDED
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import HomeUnusable, JobFailed, WeightsUnavailable
from wan_mcp.files import sha256_of, sha256_of_listing
from wan_mcp.schema.enums import Stage
from wan_mcp.settings import Settings
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import ExtraFile, InstalledWeights, installed_weights

__all__ = ["EMBEDDED", "Installed", "already_installed", "fingerprint", "install"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Installed:
    """Weights that are complete on this machine."""

    folder: Path
    """A folder with the layout of the model's repository."""
    sha256: str | None = None
    """SHA-256 of their content, if known without reading them."""
    extra_files: dict[tuple[str, str], ExtraFile] = field(default_factory=dict)
    """Adapters and GGUF files, by repository and path in the repository."""
    hashes: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each file by its path in the folder, if known without reading it."""

    def sha256_of(self, *parts: str) -> str:
        """Return the SHA-256 over the content of these subfolders, including file names."""
        hashes = self.hashes or {
            file.relative_to(self.folder).as_posix(): sha256_of(file)
            for part in parts
            for file in (self.folder / part).rglob("*")
            if file.is_file()
        }
        return sha256_of_listing((path, hashes[path]) for path in sorted(hashes) if path.partition("/")[0] in parts)


def install(
    manifest: Manifest,
    settings: Settings,
    report: Reporter,
    *,
    embedded: Path = EMBEDDED,
    hub: Hub | None = None,
    limit: int | None = None,
) -> Installed:
    """Return a model's weights; download them in the download stage if missing, and verify copies in the check stage.

    `embedded` and `hub` override the locations of this installation and the environment; `limit` is the most bytes that
    may be downloaded, None for any number.

    Raises:
        JobFailed: they are missing and cannot or must not be downloaded, or were changed.
        JobCancelled, LeaseLost, EngineShutdown: from `report`; a partial download is kept.
    """
    if manifest.weights.embedded is not None:
        return _embedded(manifest, embedded)
    with _refusals():
        return _of(_here(manifest, settings, report) or _download(manifest, settings, report, hub, limit))


def already_installed(
    manifest: Manifest, settings: Settings, check: Callable[[], None], *, embedded: Path = EMBEDDED
) -> Installed:
    """Return a model's weights if they are complete; `check` is called while copied files are verified.

    Raises:
        JobFailed: they are missing, or were changed.
    """
    if manifest.weights.embedded is not None:
        return _embedded(manifest, embedded)
    with _refusals():
        weights = installed_weights(manifest, settings.home, lambda path, read: check())
    if weights is None:
        raise JobFailed("model_not_local", f"The weights of '{manifest.name}' are not complete on this machine.")
    return _of(weights)


def _embedded(manifest: Manifest, embedded: Path) -> Installed:
    folder = embedded / (manifest.weights.embedded or "")
    if not folder.is_dir():
        raise JobFailed(
            "model_broken",
            f"The weights of '{manifest.name}' are missing from this installation; reinstall wan-mcp.",
        )
    return Installed(folder)


def _of(weights: InstalledWeights) -> Installed:
    return Installed(weights.folder, weights.fingerprint, weights.extra_files, weights.hashes)


@contextmanager
def _refusals() -> Iterator[None]:
    """Raise what is wrong with weights, or with the home, as the failure of a job."""
    try:
        yield
    except WeightsUnavailable as error:
        raise JobFailed(error.code, str(error)) from error
    except HomeUnusable as error:
        raise JobFailed("home_unusable", str(error)) from error


def _here(manifest: Manifest, settings: Settings, report: Reporter, *, came: bool = False) -> InstalledWeights | None:
    """Return the installed weights, after verifying files that were rewritten (copied, for example) since the download.

    Verification is a separate stage, except if some weights just `came`: then it belongs to the download.
    """
    entered = came

    def tell(path: str, read: Download) -> None:
        nonlocal entered
        if not entered:
            entered = True
            report.enter(Stage.CHECK)
        report.tell(f"{'checking ' if came else ''}{path}: {read}", left_s=read.eta_s)

    return installed_weights(manifest, settings.home, tell)


def _download(
    manifest: Manifest, settings: Settings, report: Reporter, hub: Hub | None, limit: int | None
) -> InstalledWeights:
    if not settings.auto_download:
        raise WeightsUnavailable(
            "model_not_local",
            f"The weights of '{manifest.name}' ({manifest.weights.repository}) are not on this machine, and "
            f"WAN_MCP_AUTO_DOWNLOAD is off: download them with 'wan-mcp pull {manifest.name}', or use another model.",
        )
    report.enter(Stage.DOWNLOAD, detail=f"asking the hub for {manifest.weights.repository}")

    def tell(download: Download) -> None:
        report.tell(str(download) if download.total else download.note)

    done = fetch(manifest, settings.home, tell, hub=hub, reserve=settings.min_free_bytes, limit=limit)
    log.info("%s: %d bytes downloaded, commit %s", manifest.name, done.came, done.lock.commit)
    for note in done.notes:
        log.warning("%s: %s", manifest.name, note)
    weights = _here(manifest, settings, report, came=True)
    if weights is None:
        raise WeightsUnavailable(
            "model_not_local", f"The weights of '{manifest.name}' disappeared during the download. Run the job again."
        )
    return weights


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over a model's tensors and configuration, including file names."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in (".safetensors", ".json")]
    return sha256_of_listing((file.relative_to(folder).as_posix(), sha256_of(file)) for file in files)
