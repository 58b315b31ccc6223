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

__all__ = ["LARGEST", "Rounded", "hadamard", "restored", "rounded", "rounded_plainly"]

LARGEST = 448.0
"""The largest number of e4m3 (OCP 8-bit floating point specification, without infinities)."""
HEADROOM = 0.9
"""Of the range for values: rounded weights may sum to a little more than one, and so may the output exceed them."""
TINY = 1e-12
ROWS, ROUNDS, WARPS = 64, 8, 4
"""Tokens that a program holds at once, how often it does so, and its warps."""


@dataclass(frozen=True)
class Rounded:
    """Self-attention's inputs in e4m3, and what makes floats of them again."""

    query: Tensor
    """(batch, tokens, heads, head width)."""
    key: Tensor
    value: Tensor
    query_scale: Tensor
    """A float32 scalar: query ≈ rounded * scale, up to the rotation."""
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


def rounded(query: Tensor, key: Tensor, value: Tensor, tuning: tuple[int, int, int] = (ROWS, ROUNDS, WARPS)) -> Rounded:
    """Inputs (batch, tokens, heads, head width) of any strides with contiguous channels, on CUDA, in e4m3."""
    from wan_mcp.engine.attention.kernels import cast_kernel, survey_kernel

    batch, tokens, heads, width = query.shape
    rows, rounds, warps = tuning
    runs, pairs, device = -(-tokens // (rows * rounds)), batch * heads, query.device
    strides = [tensor.stride(place) for tensor in (query, key, value) for place in (0, 1, 2)]
    sums = torch.empty(runs, pairs, 4, width, device=device)
    norms = torch.empty(runs, pairs, 2, device=device)
    options: dict[str, Any] = {"width": width, "held": rows, "rounds": rounds, "num_warps": warps}
    survey_kernel[(runs, pairs)](query, key, value, sums, norms, tokens, heads, *strides, **options)

    key_mean, value_mean = (mean.contiguous() for mean in (sums[:, :, :2].sum(0) / tokens).unbind(1))
    reach = torch.maximum(sums[:, :, 2].amax(0) - value_mean, value_mean - sums[:, :, 3].amin(0)).clamp(min=TINY)
    query_norm, key_norm = norms.amax((0, 1)).sqrt().unbind()
    key_norm = key_norm + torch.linalg.vector_norm(key_mean, dim=-1).amax()
    bounds = torch.stack([query_norm, key_norm]).clamp(min=TINY)
    turning = hadamard(width, device)
    turned_mean = (key_mean[:, :, None] * turning.float()).sum(1)

    query8, key8, value8 = (torch.empty(query.shape, dtype=torch.float8_e4m3fn, device=device) for _ in range(3))
    cast_kernel[(runs, pairs)](
        query, key, value, turning, turned_mean, value_mean, HEADROOM * LARGEST / reach, LARGEST / width**0.5 / bounds,
        query8, key8, value8, tokens, heads, *strides, *query8.stride()[:3], **options,
    )  # fmt: skip
    query_scale, key_scale = (bounds / LARGEST).unbind()
    return Rounded(query8, key8, value8, query_scale, key_scale, reach / (HEADROOM * LARGEST), value_mean)


def restored(output: Tensor, inputs: Rounded, dtype: torch.dtype) -> Tensor:
    """The output (batch, tokens, heads, head width) of attention over rounded inputs, in e4m3, as it should be."""
    from wan_mcp.engine.attention.kernels import restore_kernel

    batch, tokens, heads, width = output.shape
    result = torch.empty(output.shape, dtype=dtype, device=output.device)
    restore_kernel[(-(-tokens // (ROWS * ROUNDS)), batch * heads)](
        output, inputs.value_mean, inputs.value_scale, result, tokens, heads,
        *output.stride()[:3], *result.stride()[:3], width=width, held=ROWS, rounds=ROUNDS, num_warps=WARPS,
    )  # fmt: skip
    return result


def rounded_plainly(query: Tensor, key: Tensor, value: Tensor) -> Rounded:
    """`rounded` in plain torch, on any device: what the kernels are measured by."""
    batch, _, heads, width = query.shape
    query, key, value = query.float(), key.float(), value.float()
    key_mean, value_mean = key.mean(1, keepdim=True), value.mean(1, keepdim=True)
    norms = [each.square().sum(-1).amax().sqrt() for each in (query, key, key_mean)]
    bounds = torch.stack([norms[0], norms[1] + norms[2]]).clamp(min=TINY)
    reach = (value - value_mean).abs().amax(1, keepdim=True).clamp(min=TINY)
    turning = hadamard(width, query.device).float() / width**0.5
    (query_scale, key_scale), value_scale = (bounds / LARGEST).unbind(), reach / (HEADROOM * LARGEST)
    exact = (query @ turning / query_scale, (key - key_mean) @ turning / key_scale, (value - value_mean) / value_scale)
    query8, key8, value8 = (each.clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn) for each in exact)
    scales = (each.reshape(batch * heads, width) for each in (value_scale, value_mean))
    return Rounded(query8, key8, value8, query_scale, key_scale, *scales)
