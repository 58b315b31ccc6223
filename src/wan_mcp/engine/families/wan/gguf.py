"""Denoisers from GGUF files: computed from their few bits layer by layer, or unpacked once where there is room.

Unpacked weights are plain ones in the device's precision: whatever is done to those (another
precision, compilation) can be done to these, after `unpack`.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import GGUFQuantizationConfig
from diffusers.models.transformers.transformer_wan import WanTransformer3DModel

from wan_mcp.catalog.denoisers import Expert
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.memory import has_room
from wan_mcp.engine.device.out_of_memory import is_out_of_memory
from wan_mcp.errors import JobFailed
from wan_mcp.text import first_line, in_bytes
from wan_mcp.weights.installed import ExtraFile

__all__ = ["load_gguf_denoiser", "load_gguf_denoisers", "unpack"]


log = logging.getLogger(__name__)


def load_gguf_denoisers(
    manifest: Manifest, folder: Path, device: Device, files: Mapping[tuple[str, str], ExtraFile]
) -> dict[str, Any]:
    """Return the denoisers that the manifest has as GGUF, by the names of a pipeline's parts; none if it has none.

    Raises:
        JobFailed: a file cannot be read, or is for another model.
    """
    return {
        expert.subfolder: load_gguf_denoiser(manifest, expert, folder, device, files)
        for expert in manifest.pipeline.experts
        if expert.gguf is not None
    }


def load_gguf_denoiser(
    manifest: Manifest, expert: Expert, folder: Path, device: Device, files: Mapping[tuple[str, str], ExtraFile]
) -> Any:
    """Return the denoiser of an expert that the manifest has as GGUF, on the CPU.

    Its configuration lies in `folder`, in the subfolder that holds the whole denoiser elsewhere. Both
    the names of diffusers and those of Wan's authors are supported.

    Raises:
        JobFailed: the file cannot be read, or is for another model.
        ValueError: the expert has none.
    """
    if expert.gguf is None:
        raise ValueError(f"{expert.name} has no GGUF file")
    path = files[expert.gguf.repository, expert.gguf.file].path
    try:
        return WanTransformer3DModel.from_single_file(
            str(path),
            config=str(folder),
            subfolder=expert.subfolder,
            quantization_config=GGUFQuantizationConfig(compute_dtype=device.dtype),
            dtype=device.dtype,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        raise JobFailed(
            "model_broken",
            f"{expert.gguf.file} of '{manifest.name}' cannot be loaded as its {expert.name} denoiser "
            f"({first_line(error)}); correct the manifest, or pull it again.",
        ) from error


def unpack(manifest: Manifest, pipeline: Any, device: Device, names: Iterable[str]) -> None:
    """Unpack the denoisers of these names once, where the device computes faster so and has room; say what was done."""
    for name in names:
        denoiser = getattr(pipeline, name)
        # Each weight has two bytes in bf16, whatever it has now; the parameters in few bits go.
        needed = 2 * sum(_weights_of(parameter) for parameter in denoiser.parameters())
        if device.is_cuda and has_room(needed, *torch.cuda.mem_get_info(device.torch)):
            denoiser.dequantize()
            log.info("%s: %s unpacked once, %s in %s", manifest.name, name, in_bytes(needed), device.precision)
        else:
            log.info("%s: %s computed from GGUF layer by layer", manifest.name, name)


def _weights_of(parameter: Any) -> int:
    shape = getattr(parameter, "quant_shape", None)
    return math.prod(parameter.shape if shape is None else shape)
