"""What a manifest says of a model's denoisers, as sources that `load_denoiser` takes."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from diffusers import WanTransformer3DModel

from wan_mcp.catalog.denoisers import Expert
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.denoiser import DenoiserSource, FusedAdapter, blank_denoiser
from wan_mcp.engine.families.wan.gguf import load_gguf_denoiser
from wan_mcp.engine.families.wan.lora_adapter import fitted, read_adapter
from wan_mcp.weights.installed import ExtraFile

__all__ = ["PARTS", "denoiser_sources"]

PARTS = ("transformer", "transformer_2")


def denoiser_sources(context: LoadContext) -> dict[str, DenoiserSource]:
    """Return the sources of a model's denoisers, by the names of a pipeline's parts.

    Raises:
        JobFailed: a configuration or an adapter cannot be read, or an adapter does not fit.
    """
    experts = {expert.subfolder: expert for expert in context.manifest.pipeline.experts}
    parts = [part for part in PARTS if (context.weights.folder / part / "config.json").is_file()]
    return {part: _source(context, part, experts.get(part)) for part in parts}


def _source(context: LoadContext, part: str, expert: Expert | None) -> DenoiserSource:
    manifest, device = context.manifest, context.device
    folder, extra_files = context.weights.folder, context.weights.extra_files
    with translate_load_errors(manifest, folder / part):
        # With the defaults of whatever the file leaves out.
        config = blank_denoiser(json.loads((folder / part / "config.json").read_text())).config

    def load() -> Any:
        if expert is not None and expert.gguf is not None:
            return load_gguf_denoiser(manifest, expert, folder, device, extra_files)
        with translate_load_errors(manifest, folder / part):
            return WanTransformer3DModel.from_pretrained(
                folder, subfolder=part, local_files_only=True, use_safetensors=True, dtype=device.dtype
            )

    identity = hashlib.sha256(f"{context.weights_sha256} {part}".encode())
    if expert is not None and expert.gguf is not None:
        identity.update(extra_files[expert.gguf.repository, expert.gguf.file].sha256.encode())
    return DenoiserSource(
        name=f"{manifest.name} {expert.name if expert else part}",
        config=config,
        load=load,
        sha256=identity.hexdigest(),
        adapters=_own_adapters(manifest, expert, config, extra_files),
    )


def _own_adapters(
    manifest: Manifest, expert: Expert | None, config: Any, extra_files: Mapping[tuple[str, str], ExtraFile]
) -> tuple[FusedAdapter, ...]:
    """Return the adapters that the manifest names for an expert."""
    if expert is None or not expert.lora:
        return ()
    blank = blank_denoiser(config)
    found = []
    for lora in expert.lora:
        file = extra_files[lora.repository, lora.file]
        adapter = fitted(read_adapter(file.path, lora.file).for_part(expert.subfolder), blank, manifest.name)
        found.append((adapter, file.sha256, lora.scale))
    return tuple(found)
