"""Where a model's weights lie on this machine, and what they are, by their content."""

import hashlib
from pathlib import Path

from wan_mcp.errors import JobFailed
from wan_mcp.manifests import Manifest

__all__ = ["EMBEDDED", "fingerprint", "weights_folder"]

EMBEDDED = Path(__file__).parents[1] / "embedded"


def weights_folder(manifest: Manifest, embedded: Path = EMBEDDED) -> Path:
    """The folder that holds a model's weights.

    Raises:
        JobFailed: they are not on this machine.
    """
    if manifest.weights.embedded is None:
        raise JobFailed(
            "model_not_local",
            f"The weights of '{manifest.name}' ({manifest.weights.repository}) are not on this machine, "
            "and this version does not download weights yet. Use an embedded model: wan-mini, wan-mini-caption.",
        )
    folder = embedded / manifest.weights.embedded
    if not folder.is_dir():
        raise JobFailed(
            "model_broken",
            f"The weights of '{manifest.name}' are missing from this installation; reinstall wan-mcp.",
        )
    return folder


def fingerprint(folder: Path) -> str:
    """SHA-256 over a model's tensors and configuration, file names included."""
    total = hashlib.sha256()
    for file in sorted(folder.rglob("*")):
        if file.suffix in (".safetensors", ".json"):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            total.update(f"{file.relative_to(folder).as_posix()} {digest}\n".encode())
    return total.hexdigest()
