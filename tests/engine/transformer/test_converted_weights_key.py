"""Converted weights of 0.1.0 lie under a hash: the hash of the same denoiser must never change."""

import torch

from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.wan.denoiser import DenoiserSource
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape

OF_0_1_0 = "273e571a33c2d06071ffafcaa6baa29d"
"""Computed by the code of 0.1.0 for the source below without adapters."""
WITH_AN_ADAPTER_OF_0_1_0 = "cf553e52ab4a31c0f9a958ecda16f0d5"
"""The same with one. 0.1.0 could drop tensors of a LoRA in silence."""


SHAPE = BlockShape(width=64, heads=4, ffn_dim=128, cross_norm=True, temb_per_token=False, eps=1e-6)
KINDS = [BlockKind(SHAPE, "fp8-rowwise", torch.bfloat16), BlockKind(SHAPE, "plain", torch.float32)]
GPU = Device(torch.device("cuda", 0), "bf16", "some GPU")


def source_with(*adapters: tuple[str, str, float]) -> DenoiserSource:
    return DenoiserSource("x", {"num_layers": 2, "_name": 1}, lambda: None, "ab" * 32, adapters)  # type: ignore[arg-type]


def cpu_with(threads: int) -> Device:
    return Device(torch.device("cpu"), "fp32", f"cpu AVX2, any, {threads} threads")


def test_weights_that_0_1_0_converted_are_found_again() -> None:
    assert source_with().key(KINDS, GPU) == OF_0_1_0


def test_weights_with_adapters_that_0_1_0_read_in_another_way_are_converted_again() -> None:
    assert source_with(("adapter", "cd" * 32, 0.5)).key(KINDS, GPU) != WITH_AN_ADAPTER_OF_0_1_0


def test_adapters_that_a_cpu_fused_with_other_threads_are_other_weights() -> None:
    plain, fused = source_with(), source_with(("adapter", "cd" * 32, 0.5))
    assert plain.key(KINDS, cpu_with(1)) == plain.key(KINDS, cpu_with(2)) == plain.key(KINDS, GPU)
    assert len({fused.key(KINDS, device) for device in (cpu_with(1), cpu_with(2), GPU)}) == 3
