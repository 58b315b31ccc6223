"""Launch the kernels of attention, of blocks or of a VAE once: `python -m ...rehearsal_main FACTS`, as JSON.

What Triton compiles, and what was measured of kernels, is then on disk for the engine that started this process.
"""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.aot.cache_key import kind_from_dict
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.engine.aot.signature import ACTIVATIONS, example_inputs, example_weights
from wan_mcp.engine.attention import QKVProjection, choose_attention
from wan_mcp.engine.attention.fused_qkv import output_rows, quantize_projection
from wan_mcp.engine.device.kernel_checks import keep_checks_in
from wan_mcp.engine.imports import library_imports
from wan_mcp.engine.transformer.block import BlockKind, ExportableBlock
from wan_mcp.engine.transformer.self_attention import uses_fused_attention
from wan_mcp.logs import log_to_stderr

log = logging.getLogger("wan_mcp.engine.families.wan.rehearsal_main")  # it runs as `__main__`

SIZES = {"cpu": (48, 16), "cuda": (8192, 101)}
"""Tokens and text tokens. Triton compiles each kernel once for all of them."""
LATENTS = {"cpu": (2, 4, 4), "cuda": (5, 30, 52)}
"""Frames, rows and columns."""


def rehearse_blocks(kinds: list[BlockKind], device: torch.device, *, fused: bool) -> None:
    """Run a block of each kind, by torch's attention: another process checks the kernels of attention meanwhile.

    With `fused`, also launch what is fused around FP8 attention.
    """
    tokens, text = SIZES[device.type]
    for kind in kinds:
        weights, inputs = example_weights(kind, device), example_inputs(kind, tokens, text, device)
        ExportableBlock(kind)(*inputs, weights)
        if fused and uses_fused_attention(kind.scheme, device):
            _launch_fused_steps(kind, inputs)


def _launch_fused_steps(kind: BlockKind, inputs: list[Tensor]) -> None:
    named, shape = dict(zip(ACTIVATIONS, inputs, strict=True)), kind.shape
    hidden, norm = named["hidden"], named["hidden"].new_ones(shape.width)
    projection = QKVProjection(
        hidden.repeat(1, 1, 3), norm, norm, named["cos"], named["sin"], shape.heads, shape.eps
    )  # fmt: skip
    quantized = quantize_projection(projection)
    output_rows(quantized.query, quantized)


def rehearse_vae(folder: Path, device: torch.device) -> None:
    """Decode a few frames."""
    with library_imports():
        from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

        from wan_mcp.engine.vae.chunked import install_fast_coders
    with torch.device(device):
        vae = AutoencoderKLWan.from_config(AutoencoderKLWan.load_config(folder))
    vae.to(torch.bfloat16 if device.type == "cuda" else torch.float32).eval().requires_grad_(False)
    coders = install_fast_coders(vae)
    if coders is not None:
        latents = torch.zeros(1, vae.config.z_dim, *LATENTS[device.type], device=device, dtype=vae.dtype)
        for _, video in coders.decode(latents):
            log.info("decoded %s", list(video.shape))


def main(facts: dict[str, Any]) -> None:
    """Rehearse what `facts` name."""
    exit_with_parent()
    log_to_stderr("INFO")
    began, device = time.monotonic(), torch.device(facts["device"])
    if device.type == "cuda":
        torch.cuda.set_device(device)  # Triton launches on the current device
        keep_checks_in(Path(facts["home"]) / "cache" / "kernels")
    with torch.no_grad():
        for width in facts.get("widths", ()):
            choose_attention(device, facts["attention"], width, eight_bits=facts["eight_bits"])
        if "kinds" in facts:
            rehearse_blocks([kind_from_dict(each) for each in facts["kinds"]], device, fused=facts["fused"])
        if "vae" in facts:
            rehearse_vae(Path(facts["vae"]), device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    log.info("rehearsed in %.1f s", time.monotonic() - began)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
