"""Queries, keys and values in FP8 such that attention over them is close to attention over the originals.

What is done, and why softmax and the weighted mean do not notice:

- Queries and keys are turned by the same orthonormal matrix (a Hadamard matrix over its root): their products stay,
  but an outlier channel's energy, and with it its rounding error, is spread over all channels (QuaRot, Ashkboos et al.
  2024; FlashAttention-3, Shah et al. 2024).
- Keys lose their mean over the tokens: every score of a query changes by the same number (SageAttention, Zhang et al.
  2024).
- Values lose their mean over the tokens and are scaled channel by channel; the output, a convex combination of
  values, gets both back. So its range is known beforehand: that of the values.

e4m3 is a floating-point format: a scale need not be tight, only the fifteen binades must be used well. So the scales
of queries and keys come from bounds by norms, which need no pass over the turned tensors.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.ops.fp8_linear import FP8_MAX

__all__ = [
    "MIN_AMAX",
    "LaunchConfig",
    "QuantizedQKV",
    "dequantize_out",
    "hadamard",
    "quantize_qkv",
    "quantize_qkv_reference",
]

HEADROOM = 0.9
"""Of the range for values: rounded weights may sum to a little more than one, and so may the output exceed them."""
MIN_AMAX = 1e-12
"""A tensor of zeros needs some scale; any will do."""


@dataclass(frozen=True)
class LaunchConfig:
    """How much of a pass over the tokens one program does, and how."""

    held: int
    """Tokens at once."""
    rounds: int
    """How often."""
    warps: int = 4
    stages: int = 3
    group: int = 1
    """Heads at once, where that is left open."""

    def runs(self, tokens: int) -> int:
        """How many programs a pair needs."""
        return -(-tokens // (self.held * self.rounds))

    def options(self) -> dict[str, Any]:
        """For the kernel's launch."""
        return {"held": self.held, "rounds": self.rounds, "num_warps": self.warps, "num_stages": self.stages}


SURVEY, CAST, RESTORE = LaunchConfig(16, 32, warps=1), LaunchConfig(64, 8, stages=2), LaunchConfig(64, 4)
"""The quickest on an H200 (`benchmarks/results/attention_choices.json`)."""


@dataclass(frozen=True)
class QuantizedQKV:
    """Self-attention's inputs in e4m3, and what makes floats of them again."""

    query: Tensor
    """(batch, tokens, heads, head width)."""
    key: Tensor
    value: Tensor
    query_scale: Tensor
    """One float32 number: query ≈ rounded * scale, up to the rotation."""
    key_scale: Tensor
    value_scale: Tensor
    """(batch * heads, head width) float32."""
    value_mean: Tensor
    """Likewise."""


@lru_cache(maxsize=8)
def hadamard(width: int, device: torch.device) -> Tensor:
    """Sylvester's Hadamard matrix of this width, a power of two: entries ±1, bf16; over its root it is orthonormal."""
    matrix = torch.ones(1, 1)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.to(device, torch.bfloat16)


def quantize_qkv(
    query: Tensor, key: Tensor, value: Tensor, survey: LaunchConfig = SURVEY, cast: LaunchConfig = CAST
) -> QuantizedQKV:
    """Inputs (batch, tokens, heads, head width) of any strides, on CUDA, in e4m3.

    `survey` and `cast` are what one program of the two passes over the inputs does.
    """
    from wan_mcp.engine.attention.fp8_quantize_triton import cast_kernel, settle_kernel, survey_kernel

    query, key, value = (each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value))
    batch, tokens, heads, width = query.shape
    pairs, device, turning = batch * heads, query.device, hadamard(width, query.device)
    strides = [tensor.stride(place) for tensor in (query, key, value) for place in (0, 1, 2)]

    runs = survey.runs(tokens)
    sums = torch.empty(runs, pairs, 4, width, device=device)
    norms = torch.empty(runs, pairs, 2, device=device)
    survey_kernel[(runs, pairs)](query, key, value, sums, norms, tokens, heads, *strides, width, **survey.options())

    turned_mean, value_mean, value_scale = torch.empty(3, pairs, width, device=device).unbind()
    bounds, scales = torch.empty(pairs, 2, device=device), torch.empty(2, device=device)
    settle_kernel[(pairs,)](
        sums, norms, turning, turned_mean, value_mean, value_scale, bounds,
        runs, tokens, HEADROOM * FP8_MAX, width, held=32,
    )  # fmt: skip

    query8, key8, value8 = (torch.empty(query.shape, dtype=torch.float8_e4m3fn, device=device) for _ in range(3))
    cast_kernel[(cast.runs(tokens), pairs)](
        query, key, value, turning, turned_mean, value_mean, value_scale, bounds, query8, key8, value8, scales,
        tokens, heads, width**0.5, *strides, *query8.stride()[:3], width,
        pairs=1 << (pairs - 1).bit_length(), **cast.options(),
    )  # fmt: skip
    return QuantizedQKV(query8, key8, value8, scales[:1], scales[1:], value_scale, value_mean)


def dequantize_out(output: Tensor, inputs: QuantizedQKV, dtype: torch.dtype) -> Tensor:
    """The output (batch, tokens, heads, head width) of attention over rounded inputs, in e4m3, as it should be."""
    from wan_mcp.engine.attention.fp8_quantize_triton import restore_kernel

    batch, tokens, heads, width = output.shape
    result = torch.empty(output.shape, dtype=dtype, device=output.device)
    restore_kernel[(RESTORE.runs(tokens), batch * heads)](
        output, inputs.value_mean, inputs.value_scale, result, tokens, heads,
        *output.stride()[:3], *result.stride()[:3], width, **RESTORE.options(),
    )  # fmt: skip
    return result


def quantize_qkv_reference(query: Tensor, key: Tensor, value: Tensor) -> QuantizedQKV:
    """`quantize_qkv` in plain torch, on any device: what the kernels are measured by."""
    batch, _, heads, width = query.shape
    query, key, value = query.float(), key.float(), value.float()
    key_mean, value_mean = key.mean(1, keepdim=True), value.mean(1, keepdim=True)
    query_norm, key_norm, mean_norm = (torch.linalg.vector_norm(each, dim=-1) for each in (query, key, key_mean))
    bounds = torch.stack([query_norm.amax(), (key_norm + mean_norm).amax()]).clamp(min=MIN_AMAX)
    reach = (value - value_mean).abs().amax(1, keepdim=True).clamp(min=MIN_AMAX)
    turning = hadamard(width, query.device).float() / width**0.5
    (query_scale, key_scale), value_scale = (bounds / FP8_MAX).split(1), reach / (HEADROOM * FP8_MAX)
    exact = (query @ turning / query_scale, (key - key_mean) @ turning / key_scale, (value - value_mean) / value_scale)
    query8, key8, value8 = (each.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn) for each in exact)
    scales = (each.reshape(batch * heads, width) for each in (value_scale, value_mean))
    return QuantizedQKV(query8, key8, value8, query_scale, key_scale, *scales)
