"""Converted weights of 0.1.0 lie under a hash: the hash of the same denoiser must never change."""

import torch

from wan_mcp.engine.families.wan.denoiser import DenoiserSource
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape

OF_0_1_0 = "cf553e52ab4a31c0f9a958ecda16f0d5"
"""Computed by the code of 0.1.0 for the very source below."""


def test_weights_that_0_1_0_converted_are_found_again() -> None:
    shape = BlockShape(width=64, heads=4, ffn_dim=128, cross_norm=True, temb_per_token=False, eps=1e-6)
    adapters = (("adapter", "cd" * 32, 0.5),)
    source = DenoiserSource("x", {"num_layers": 2, "_name": 1}, lambda: None, "ab" * 32, adapters)  # type: ignore[arg-type]
    kinds = [BlockKind(shape, "fp8-rowwise", torch.bfloat16), BlockKind(shape, "plain", torch.float32)]
    assert source.key(kinds) == OF_0_1_0
