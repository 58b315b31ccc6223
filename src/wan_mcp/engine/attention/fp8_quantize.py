"""Quantize queries, keys and values to FP8 such that attention over them is close to that over the originals.

The steps, and why they do not change the exact result:

- Queries and keys are rotated by the same orthonormal matrix (a Hadamard matrix over the root of its width). Their
  products stay the same, but an outlier channel's energy, and so its quantization error, is spread over all channels
  (QuaRot, Ashkboos et al. 2024; FlashAttention-3, Shah et al. 2024).
- The mean over the tokens is subtracted from the keys: all scores of a query change by the same number
  (SageAttention, Zhang et al. 2024).
- The mean over the tokens is subtracted from the values, which are scaled per channel. Both are undone in the output.
  It is a convex combination of values, so its range is known beforehand: that of the values.

e4m3 is a floating-point format: a scale need not be tight, as long as the fifteen binades are used well. So the scales
of queries and keys come from bounds on norms, which need no pass over the rotated tensors.
"""

from dataclasses import dataclass
from functools import lru_cache

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
"""Headroom in the range of values: quantized weights may sum to slightly more than one, so the output may be larger."""
MIN_AMAX = 1e-12
"""Minimum scale, for tensors of zeros."""


@dataclass(frozen=True)
class LaunchConfig:
    """The share of the tokens that one program of a kernel handles."""

    block_m: int
    """Tokens in a tile."""
    tiles: int
    """Tiles of one program, one after the other."""
    num_warps: int = 4
    num_stages: int = 3
    block_h: int = 1
    """Heads at a time, for kernels with that option."""

    def num_programs(self, tokens: int) -> int:
        """Return how many programs cover the tokens."""
        return -(-tokens // (self.block_m * self.tiles))

    def options(self) -> dict[str, int]:
        """Return the keyword arguments of a kernel's launch."""
        return {
            "BLOCK_M": self.block_m,
            "TILES": self.tiles,
            "num_warps": self.num_warps,
            "num_stages": self.num_stages,
        }


AMAX_REDUCE, QUANTIZE, DEQUANTIZE = (
    LaunchConfig(16, 32, num_warps=1),
    LaunchConfig(64, 8, num_stages=2),
    LaunchConfig(64, 4),
)
"""The fastest on an H200 (`benchmarks/results/attention_choices.json`)."""


@dataclass(frozen=True)
class QuantizedQKV:
    """Self-attention's inputs in e4m3, with the scales and means to dequantize them."""

    query: Tensor
    """(batch, tokens, heads, head_dim)."""
    key: Tensor
    value: Tensor
    query_scale: Tensor
    """One float32 number: query ≈ quantized * scale, up to the rotation."""
    key_scale: Tensor
    value_scale: Tensor
    """(batch * heads, head_dim) float32."""
    value_mean: Tensor
    """Likewise."""


@lru_cache(maxsize=8)
def hadamard(width: int, device: torch.device) -> Tensor:
    """Return Sylvester's Hadamard matrix of a width that is a power of two: ±1 in bf16, orthonormal over its root."""
    matrix = torch.ones(1, 1)
    while len(matrix) < width:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)])
    return matrix.to(device, torch.bfloat16)


def quantize_qkv(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    amax_reduce: LaunchConfig = AMAX_REDUCE,
    quantize: LaunchConfig = QUANTIZE,
) -> QuantizedQKV:
    """Quantize inputs (batch, tokens, heads, head_dim) of any strides, on CUDA, to e4m3.

    `amax_reduce` and `quantize` configure the two passes over the inputs.
    """
    from wan_mcp.engine.attention.fp8_quantize_triton import amax_reduce_kernel, finalize_scales_kernel, quantize_kernel

    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    batch, tokens, heads, width = query.shape
    pairs, device, rotation = batch * heads, query.device, hadamard(width, query.device)
    strides = [tensor.stride(place) for tensor in (query, key, value) for place in (0, 1, 2)]

    partials = amax_reduce.num_programs(tokens)
    partial_kv = torch.empty(partials, pairs, 4, width, device=device)
    partial_norm = torch.empty(partials, pairs, 2, device=device)
    amax_reduce_kernel[(partials, pairs)](
        query, key, value, partial_kv, partial_norm, tokens, heads, *strides, HEAD_DIM=width, **amax_reduce.options()
    )

    rotated_key_mean, value_mean, value_scale = torch.empty(3, pairs, width, device=device).unbind()
    bounds, scales = torch.empty(pairs, 2, device=device), torch.empty(2, device=device)
    finalize_scales_kernel[(pairs,)](
        partial_kv, partial_norm, rotation, rotated_key_mean, value_mean, value_scale, bounds,
        partials, tokens, HEADROOM * FP8_MAX, HEAD_DIM=width, BLOCK_P=32,
    )  # fmt: skip

    query8, key8, value8 = (torch.empty(query.shape, dtype=torch.float8_e4m3fn, device=device) for _ in range(3))
    quantize_kernel[(quantize.num_programs(tokens), pairs)](
        query, key, value, rotation, rotated_key_mean, value_mean, value_scale, bounds, query8, key8, value8, scales,
        tokens, heads, width**0.5, *strides, *query8.stride()[:3],
        HEAD_DIM=width, BLOCK_BH=1 << (pairs - 1).bit_length(), **quantize.options(),
    )  # fmt: skip
    return QuantizedQKV(query8, key8, value8, scales[:1], scales[1:], value_scale, value_mean)


def dequantize_out(output: Tensor, inputs: QuantizedQKV, dtype: torch.dtype) -> Tensor:
    """Dequantize the e4m3 output (batch, tokens, heads, head_dim) of attention over e4m3 inputs."""
    from wan_mcp.engine.attention.fp8_quantize_triton import dequantize_kernel

    batch, tokens, heads, width = output.shape
    result = torch.empty(output.shape, dtype=dtype, device=output.device)
    dequantize_kernel[(DEQUANTIZE.num_programs(tokens), batch * heads)](
        output, inputs.value_mean, inputs.value_scale, result, tokens, heads,
        *output.stride()[:3], *result.stride()[:3], HEAD_DIM=width, **DEQUANTIZE.options(),
    )  # fmt: skip
    return result


def quantize_qkv_reference(query: Tensor, key: Tensor, value: Tensor) -> QuantizedQKV:
    """Compute `quantize_qkv` in plain torch, on any device: the reference for the kernels."""
    batch, _, heads, width = query.shape
    query, key, value = query.float(), key.float(), value.float()
    key_mean, value_mean = key.mean(1, keepdim=True), value.mean(1, keepdim=True)
    query_norm, key_norm, mean_norm = (torch.linalg.vector_norm(x, dim=-1) for x in (query, key, key_mean))
    bounds = torch.stack([query_norm.amax(), (key_norm + mean_norm).amax()]).clamp(min=MIN_AMAX)
    reach = (value - value_mean).abs().amax(1, keepdim=True).clamp(min=MIN_AMAX)
    rotation = hadamard(width, query.device).float() / width**0.5
    (query_scale, key_scale), value_scale = (bounds / FP8_MAX).split(1), reach / (HEADROOM * FP8_MAX)
    exact = (
        query @ rotation / query_scale,
        (key - key_mean) @ rotation / key_scale,
        (value - value_mean) / value_scale,
    )
    query8, key8, value8 = (x.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn) for x in exact)
    scales = (x.reshape(batch * heads, width) for x in (value_scale, value_mean))
    return QuantizedQKV(query8, key8, value8, query_scale, key_scale, *scales)
