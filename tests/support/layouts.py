"""For a manifest of a hub model, a tiny model of the same classes in the same layout and file names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from tests.support import tiny_models as models
from tests.support.gguf_files import write_gguf
from tests.support.lora_files import write_lora
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.schema.enums import Task

__all__ = ["PIPELINES", "save_further", "save_tiny", "shipped_in_small", "write_in_small"]

SHARD = "60KB"
"""Small enough that the denoisers and the text encoder come in several files, as the real ones do."""

PIPELINES = {
    Task.TEXT_TO_VIDEO: "WanPipeline",
    Task.TEXT_TO_IMAGE: "WanPipeline",
    Task.IMAGE_TO_VIDEO: "WanImageToVideoPipeline",
    Task.FIRST_LAST_FRAME_TO_VIDEO: "WanImageToVideoPipeline",
    Task.IMAGE_TO_IMAGE: "WanVideoToVideoPipeline",
}


def shipped_in_small() -> Catalog:
    """The shipped manifests, but for their memory: tiny models need none, wherever the tests run."""
    catalog = Catalog(shipped_folder())
    for name, manifest in catalog.manifests.items():
        weights = manifest.weights.model_copy(update={"memory_bytes": {}})
        catalog.manifests[name] = manifest.model_copy(update={"weights": weights})
    return catalog


def write_in_small(name: str, home: Path) -> Manifest:
    """Put the same of one manifest in place of the shipped one in a home."""
    written = (shipped_folder() / f"{name}.toml").read_text(encoding="utf-8")
    file = home / "manifests" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(re.sub(r"(?m)^memory_bytes = .*$", "memory_bytes = {}", written), encoding="utf-8")
    return Manifest.read(file)


def save_tiny(manifest: Manifest, folder: Path) -> None:
    """Write the repository of a manifest, in small and with random weights, as its authors would.

    Beside what is wanted it holds what is not: a readme, a picture, and pickles.
    """
    _layout_of(manifest)(folder, max_shard_size=SHARD)
    (folder / "README.md").write_text("not wanted", encoding="utf-8")
    (folder / "assets").mkdir()
    (folder / "assets" / "logo.png").write_bytes(b"not wanted")
    (folder / "transformer" / "diffusion_pytorch_model.bin").write_bytes(b"never wanted")


def save_further(manifest: Manifest, tiny: Path, folder: Path) -> list[str]:
    """Write the adapters and GGUF files of a manifest for its tiny model: below `folder`, a folder per repository."""
    for number, expert in enumerate(manifest.pipeline.experts):
        if not expert.extra_files:
            continue
        denoiser: Any = WanTransformer3DModel.from_pretrained(tiny, subfolder=expert.subfolder, local_files_only=True)
        for repository, path in expert.extra_files:
            file = folder / repository / path
            file.parent.mkdir(parents=True, exist_ok=True)
            if expert.gguf:
                write_gguf(file, denoiser)
            elif not file.exists():
                write_lora(file, denoiser, "kijai", seed=number)
    names = {repository for expert in manifest.pipeline.experts for repository, _ in expert.extra_files}
    for repository in names:
        (folder / repository / "other.safetensors").write_bytes(b"not wanted")
    return sorted(names)


def _layout_of(manifest: Manifest) -> Callable[..., None]:
    if manifest.pipeline.family != "wan":
        raise LookupError(f"no tiny model of the family '{manifest.pipeline.family}' yet: add one here")
    pictures_only = not set(manifest.tasks) - {Task.IMAGE_TO_VIDEO, Task.FIRST_LAST_FRAME_TO_VIDEO}
    if len(manifest.pipeline.experts) == 2:
        return models.save_two_experts_of_images if pictures_only else models.save_two_experts
    # The VAE of Wan2.2 makes one latent pixel of 16, and the denoiser takes them by two.
    patched = manifest.sizes is not None and manifest.sizes.multiple == 32
    return models.save_one_expert if patched else models.save_first_generation
