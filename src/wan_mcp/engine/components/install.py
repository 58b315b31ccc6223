"""Where a model's weights lie on this machine, and what they are, by their content."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import HomeUnusable, JobFailed, WeightsUnavailable
from wan_mcp.files import sha256_of, sha256_of_listing
from wan_mcp.schema.enums import Stage
from wan_mcp.settings import Settings
from wan_mcp.weights.download_progress import Download
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import ExtraFile, InstalledWeights, installed_weights

__all__ = ["EMBEDDED", "Installed", "fingerprint", "install"]

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[2] / "embedded"


@dataclass(frozen=True)
class Installed:
    """Weights that are whole on this machine."""

    folder: Path
    """Laid out as the model's repository is."""
    sha256: str | None = None
    """What they are, by their content, where that is known without reading them."""
    extra_files: dict[tuple[str, str], ExtraFile] = field(default_factory=dict)
    """Adapters and GGUF files, by repository and path in it."""
    hashes: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of each file by its path in the folder, where that is known without reading it."""

    def sha256_of(self, *parts: str) -> str:
        """SHA-256 over what these subfolders hold, file names included."""
        hashes = self.hashes or {
            file.relative_to(self.folder).as_posix(): sha256_of(file)
            for part in parts
            for file in (self.folder / part).rglob("*")
            if file.is_file()
        }
        return sha256_of_listing((path, hashes[path]) for path in sorted(hashes) if path.partition("/")[0] in parts)


def install(
    manifest: Manifest, settings: Settings, report: Reporter, *, embedded: Path = EMBEDDED, hub: Hub | None = None
) -> Installed:
    """A model's weights, downloaded in the stage of that name if they are not here yet; copies are checked in theirs.

    `embedded` and `hub` are other places than this installation's and the environment's.

    Raises:
        JobFailed: they are not here and cannot or must not be downloaded, or were changed.
        JobCancelled, LeaseLost, EngineShutdown: from `report`; what came of a download stays.
    """
    if manifest.weights.embedded is not None:
        folder = embedded / manifest.weights.embedded
        if not folder.is_dir():
            raise JobFailed(
                "model_broken",
                f"The weights of '{manifest.name}' are missing from this installation; reinstall wan-mcp.",
            )
        return Installed(folder)
    try:
        weights = _here(manifest, settings, report) or _download(manifest, settings, report, hub)
    except WeightsUnavailable as error:
        raise JobFailed(error.code, str(error)) from error
    except HomeUnusable as error:
        raise JobFailed("home_unusable", str(error)) from error
    return Installed(weights.folder, weights.fingerprint, weights.extra_files, weights.hashes)


def _here(manifest: Manifest, settings: Settings, report: Reporter, *, came: bool = False) -> InstalledWeights | None:
    """The weights that are here; files that were written anew since they came (copied, say) are read before.

    That is a stage of its own, but for weights of which some just `came`: nobody's time is left out of a download.
    """
    entered = came

    def tell(path: str, read: Download) -> None:
        nonlocal entered
        if not entered:
            entered = True
            report.enter(Stage.CHECK)
        report.tell(f"{'checking ' if came else ''}{path}: {read}", left_s=read.eta_s)

    return installed_weights(manifest, settings.home, tell)


def _download(manifest: Manifest, settings: Settings, report: Reporter, hub: Hub | None) -> InstalledWeights:
    if not settings.auto_download:
        raise WeightsUnavailable(
            "model_not_local",
            f"The weights of '{manifest.name}' ({manifest.weights.repository}) are not on this machine, and "
            f"WAN_MCP_AUTO_DOWNLOAD is off: download them with 'wan-mcp pull {manifest.name}', or use another model.",
        )
    report.enter(Stage.DOWNLOAD, detail=f"asking the hub for {manifest.weights.repository}")

    def tell(download: Download) -> None:
        report.tell(str(download) if download.total else download.note)

    done = fetch(manifest, settings.home, tell, hub=hub, reserve=settings.min_free_bytes)
    log.info("%s: %d bytes came, commit %s", manifest.name, done.came, done.lock.commit)
    for note in done.notes:
        log.warning("%s: %s", manifest.name, note)
    weights = _here(manifest, settings, report, came=True)
    if weights is None:
        raise WeightsUnavailable(
            "model_not_local", f"The weights of '{manifest.name}' vanished while they came. Run the job again."
        )
    return weights


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model's tensors and configuration, file names included."""
    files = [file for file in sorted(folder.rglob("*")) if file.suffix in (".safetensors", ".json")]
    return sha256_of_listing((file.relative_to(folder).as_posix(), sha256_of(file)) for file in files)
