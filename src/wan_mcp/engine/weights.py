"""Where a model's weights lie on this machine, and what they are, by their content."""

import hashlib
import logging
from dataclasses import dataclass, field
from pathlib import Path

from wan_mcp.engine.reporter import Reporter
from wan_mcp.errors import HomeUnusable, JobFailed, WeightsUnavailable
from wan_mcp.manifests import Manifest
from wan_mcp.settings import Settings
from wan_mcp.specs import Stage
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.local import FurtherFile, LocalWeights, local_weights
from wan_mcp.weights.progress import Download

__all__ = ["EMBEDDED", "Installed", "fingerprint", "install"]

log = logging.getLogger(__name__)

EMBEDDED = Path(__file__).parents[1] / "embedded"
MB = 1_000_000


@dataclass(frozen=True)
class Installed:
    """Weights that are whole on this machine."""

    folder: Path
    """Laid out as the model's repository is."""
    sha256: str | None = None
    """What they are, by their content, where that is known without reading them."""
    further: dict[tuple[str, str], FurtherFile] = field(default_factory=dict)
    """Adapters and GGUF files, by repository and path in it."""


def install(
    manifest: Manifest, settings: Settings, report: Reporter, *, embedded: Path = EMBEDDED, hub: Hub | None = None
) -> Installed:
    """A model's weights, downloaded in the stage of that name if they are not here yet.

    `embedded` and `hub` are other places than this installation's and the environment's.

    Raises:
        JobFailed: they are not here and cannot or must not be downloaded, or were changed.
        JobCancelled, JobLost, EngineLeaves: from `report`; what came of a download stays.
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
        weights = local_weights(manifest, settings.home) or _download(manifest, settings, report, hub)
    except WeightsUnavailable as error:
        raise JobFailed(error.code, str(error)) from error
    except HomeUnusable as error:
        raise JobFailed("home_unusable", str(error)) from error
    return Installed(weights.folder, weights.fingerprint, weights.further)


def _download(manifest: Manifest, settings: Settings, report: Reporter, hub: Hub | None) -> LocalWeights:
    if not settings.auto_download:
        raise WeightsUnavailable(
            "model_not_local",
            f"The weights of '{manifest.name}' ({manifest.weights.repository}) are not on this machine, and "
            f"WAN_MCP_AUTO_DOWNLOAD is off: download them with 'wan-mcp pull {manifest.name}', or use another model.",
        )
    report.enter(Stage.DOWNLOAD, detail=f"asking the hub for {manifest.weights.repository}")

    def tell(download: Download) -> None:
        report.tell(str(download) if download.total else download.note)

    done = fetch(manifest, settings.home, tell, hub=hub, reserve=settings.min_free_mb * MB)
    log.info("%s: %d bytes came, commit %s", manifest.name, done.came, done.lock.commit)
    for note in done.notes:
        log.warning("%s: %s", manifest.name, note)
    weights = local_weights(manifest, settings.home)
    if weights is None:
        raise WeightsUnavailable(
            "model_not_local", f"The weights of '{manifest.name}' vanished while they came. Run the job again."
        )
    return weights


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model's tensors and configuration, file names included."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".safetensors", ".json"):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            total.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()
