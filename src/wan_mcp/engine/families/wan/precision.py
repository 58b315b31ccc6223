"""The precision in which a model's denoisers run on a device: what the settings ask for, and what is possible."""

import fnmatch
import logging
from typing import Any

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, QuantScheme
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.machine import MIN_FP8_CAPABILITY
from wan_mcp.schema.enums import RequestedPrecision

__all__ = ["block_kinds", "scheme_for"]

log = logging.getLogger(__name__)


def scheme_for(manifest: Manifest, device: Device, asked: RequestedPrecision) -> QuantScheme | None:
    """Return the scheme for the blocks, or None to leave them as diffusers made them.

    On a GPU blocks are always our own: FP8 where the manifest names it and the GPU can, else plain. On a CPU FP8 is
    slower than full precision, so it is only there if the settings ask for it.

    Raises:
        JobFailed: the settings ask for FP8 and the model or the GPU has none.
    """
    if asked == "full":
        return PLAIN if device.is_cuda else None
    named = manifest.can_be_fp8
    able = not device.is_cuda or torch.cuda.get_device_capability(device.torch) >= MIN_FP8_CAPABILITY
    if asked == "fp8" and not (named and able):
        why = f"the manifest of '{manifest.name}' names no FP8 recipe" if able else f"{device.description} has no FP8"
        raise JobFailed("no_fp8", f"WAN_MCP_PRECISION is fp8, but {why}. Set it to auto, or use another model.")
    if not device.is_cuda:
        return FP8 if asked == "fp8" else None
    return FP8 if named and able else PLAIN


def block_kinds(
    manifest: Manifest, config: Any, scheme: QuantScheme, dtype: torch.dtype, *, temb_per_token: bool
) -> list[BlockKind] | None:
    """Return the kind of each block of a denoiser with this configuration; None where its blocks are not ours to run.

    A pattern of the manifest's `quantization.exclude` that matches a block (`blocks.0`) leaves it plain; what lies
    outside the blocks is never quantized.

    Raises:
        JobFailed: a pattern is for a part of a block.
    """
    shape = BlockShape.of(config, temb_per_token=temb_per_token)
    if shape is None:
        log.info("%s: its blocks read pictures through attention; they run as diffusers has them", manifest.name)
        return None
    patterns = manifest.quantization.exclude if manifest.quantization else ()
    if part := next((p for p in patterns if p.startswith("blocks.") and p.count(".") > 1), None):
        raise JobFailed(
            "model_broken",
            f"'{manifest.name}' excludes '{part}' from quantization: only whole blocks ('blocks.0') can be; correct "
            "its manifest.",
        )

    def recipe_of(number: int) -> QuantScheme:
        return PLAIN if any(fnmatch.fnmatch(f"blocks.{number}", p) for p in patterns) else scheme

    return [BlockKind(shape, recipe_of(number), dtype) for number in range(config.num_layers)]
