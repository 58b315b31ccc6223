"""Fused self-attention in FP8, from the QKV projection to the quantized input of the output projection.

RMS norm, RoPE and quantization of queries and keys, three passes with `fp8_quantize`, are one pass here, and so are
dequantization of the output and its quantization for the next product. Nothing is written in 16 bits in between. There
are two differences from `fp8_quantize`; neither changes the result of softmax:

- The mean of a sample of the keys is subtracted from the keys. Any constant vector may be subtracted from all keys,
  since it changes all scores of a query by the same number; a sample's mean shortens them as well as the true mean.
- The scales of queries and keys come from a bound that needs no pass over them. A row of n channels after RMS norm has
  a norm of at most √n, so its part in one head, times weights w, has at most √n · max|w|. A rotation preserves that;
  subtracting a mean m from a key adds at most |m|. e4m3 is a floating-point format: a loose bound costs nothing until
  numbers become subnormal, fifteen binades below the largest.

Values are read in full: their scale must be a true bound, because the output has the same range.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import HEADROOM, MIN_AMAX, LaunchConfig, QuantizedQKV, hadamard
from wan_mcp.engine.ops import modulate as plain_steps
from wan_mcp.engine.ops.fp8_linear import FP8_MAX, quantize_rowwise
from wan_mcp.engine.ops.modulate import FusedOps
from wan_mcp.engine.parallel.context_parallel import ContextParallel

__all__ = [
    "LaunchConfigs",
    "QKVProjection",
    "output_rows",
    "output_rows_reference",
    "quantize_projection",
    "quantize_projection_reference",
]

SAMPLE_STRIDE = 11
"""The keys' mean is taken over every 11th key. A prime, so that the sample covers all columns of a frame."""

SUM_K_SAMPLE = LaunchConfig(16, 1, num_stages=3, block_h=2)
V_AMAX_REDUCE = LaunchConfig(8, 32, num_warps=2, num_stages=1, block_h=4)
QUANTIZE_QK = LaunchConfig(8, 1, num_warps=8, num_stages=3, block_h=8)
QUANTIZE_V = LaunchConfig(32, 4, num_stages=1, block_h=4)
REQUANTIZE_ROWS = LaunchConfig(1, 16, num_warps=2, num_stages=3)


@dataclass(frozen=True)
class LaunchConfigs:
    """The launch configuration of each kernel.

    `sum_k_sample` has one tile, and a tile of `quantize_qk` at least 16 rows (tokens * heads), which tl.dot needs.
    """

    sum_k_sample: LaunchConfig = SUM_K_SAMPLE
    v_amax_reduce: LaunchConfig = V_AMAX_REDUCE
    quantize_qk: LaunchConfig = QUANTIZE_QK
    quantize_v: LaunchConfig = QUANTIZE_V
    requantize_rows: LaunchConfig = REQUANTIZE_ROWS


LAUNCH_CONFIGS = LaunchConfigs()


@dataclass(frozen=True)
class QKVProjection:
    """The QKV projection of one block, with the norm weights and rotary tables to compute Q, K and V from it."""

    qkv: Tensor
    """(1, tokens, 3 * width): query, key and value of each token."""
    query_norm: Tensor
    """(width): weights of the query's RMS norm over all heads."""
    key_norm: Tensor
    cos: Tensor
    """(tokens, head_dim / 2) float32: of the rotary angles, one per pair of channels."""
    sin: Tensor
    heads: int
    eps: float

    @property
    def width(self) -> int:
        """Return the width of all heads."""
        return int(self.qkv.shape[-1]) // 3

    def part(self, number: int) -> Tensor:
        """Return query, key or value (0, 1 or 2) as in `qkv`, (1, tokens, heads, head_dim)."""
        channels = self.qkv[..., number * self.width : (number + 1) * self.width]
        return torch.unflatten(channels, -1, (self.heads, -1))

    def to_qkv(self, steps: FusedOps = plain_steps) -> tuple[Tensor, Tensor, Tensor]:
        """Return query and key after RMS norm and RoPE, and value, (1, tokens, heads, head_dim) each."""
        norms = [self.query_norm, self.key_norm]
        out = steps.qk_rms_norm_rope(self.qkv, norms, self.cos, self.sin, self.width, self.eps, rotate=True)
        query, key = out.unflatten(-1, (self.heads, -1)).split(1)
        return query, key, self.part(2)


def quantize_projection(
    projection: QKVProjection, launches: LaunchConfigs = LAUNCH_CONFIGS, context: ContextParallel | None = None
) -> QuantizedQKV:
    """Quantize the inputs of attention to e4m3, from a projection on CUDA whose channels are contiguous.

    With `context`, the projection has this rank's tokens, and the result all tokens of this rank's heads. Its
    `value_scale` and `value_mean` are those of all heads, (heads, head_dim), for `output_rows`.
    """
    from wan_mcp.engine.attention import fused_qkv_triton as kernels

    qkv, heads, full = projection.qkv, projection.heads, projection.width
    tokens, width, device = qkv.shape[1], full // heads, qkv.device
    stride, rotation = qkv.stride(1), hadamard(width, device)
    cos, sin = projection.cos.contiguous(), projection.sin.contiguous()

    # The same keys as on one device, so that all bytes are nearly the same.
    start = 0 if context is None else context.first_of_every(SAMPLE_STRIDE)
    sampled, launch = -(-(tokens - start) // SAMPLE_STRIDE), launches.sum_k_sample
    partial_key = torch.empty(launch.num_programs(sampled), full, device=device)
    kernels.sum_k_sample_kernel[(len(partial_key),)](
        qkv[:, start:], projection.key_norm, cos[start:], sin[start:], partial_key, tokens - start, stride,
        SAMPLE_STRIDE, projection.eps,
        NUM_HEADS=heads, HEAD_DIM=width, BLOCK_M=launch.block_m, BLOCK_H=launch.block_h, NUM_STAGES=launch.num_stages,
        num_warps=launch.num_warps,
    )  # fmt: skip
    launch = launches.v_amax_reduce
    partial_value = torch.empty(launch.num_programs(tokens), 3, full, device=device)
    kernels.v_amax_reduce_kernel[(len(partial_value), -(-heads // launch.block_h))](
        qkv, partial_value, tokens, stride, full,
        BLOCK_N=launch.block_h * width, NUM_STAGES=launch.num_stages, **launch.options(),
    )  # fmt: skip
    all_tokens = tokens
    if context is not None:
        partial_key, partial_value = _of_all_ranks(partial_key, partial_value, context)
        all_tokens = context.tokens
        sampled = -(-all_tokens // SAMPLE_STRIDE)
    weights, means = torch.empty(2, 2, full, device=device).unbind()
    value_mean, value_scale = torch.empty(2, heads, width, device=device).unbind()
    bounds, scales = torch.empty(heads, 2, device=device), torch.empty(2, device=device)
    kernels.finalize_qkv_scales_kernel[(heads,)](
        partial_key, partial_value, projection.query_norm, projection.key_norm, weights, means, value_mean, value_scale,
        bounds, len(partial_key), len(partial_value), sampled, all_tokens, HEADROOM * FP8_MAX, full**0.5, full,
        HEAD_DIM=width, BLOCK_P=32,
    )  # fmt: skip
    ranks = 1 if context is None else context.ranks
    # Each rank's heads are together, so that they travel without another copy.
    out = torch.empty(3, ranks, tokens, heads // ranks, width, dtype=torch.float8_e4m3fn, device=device)
    launch = launches.quantize_v
    kernels.quantize_v_kernel[(launch.num_programs(tokens), -(-heads // launch.block_h))](
        qkv, value_mean, value_scale, out[2], tokens, stride, full,
        GROUP_DIM=full // ranks, BLOCK_N=launch.block_h * width, NUM_STAGES=launch.num_stages, **launch.options(),
    )  # fmt: skip
    value = None if context is None else context.groups_to_heads(out[2])  # while queries and keys are quantized
    launch = launches.quantize_qk
    kernels.quantize_qk_kernel[(2 * launch.num_programs(tokens),)](
        qkv, weights, means, cos, sin, rotation, bounds, out, scales, tokens, stride, projection.eps, width**0.5,
        NUM_HEADS=heads, HEAD_DIM=width, GROUP_HEADS=heads // ranks, BLOCK_H=launch.block_h,
        BLOCK_ALL_H=1 << (heads - 1).bit_length(), NUM_STAGES=launch.num_stages, **launch.options(),
    )  # fmt: skip
    if context is None or value is None:
        return QuantizedQKV(out[0], out[1], out[2], scales[:1], scales[1:], value_scale, value_mean)
    exchanges = [context.groups_to_heads(out[0]), context.groups_to_heads(out[1]), value]
    query8, key8, value8 = (exchange.finish()[None] for exchange in exchanges)
    return QuantizedQKV(query8, key8, value8, scales[:1], scales[1:], value_scale, value_mean)


def _of_all_ranks(partial_key: Tensor, partial_value: Tensor, context: ContextParallel) -> tuple[Tensor, Tensor]:
    """Return the partial results of all ranks, one of each rank: all of them then compute the same scales."""
    key, value = partial_key.sum(0, keepdim=True), partial_value
    extremes = [value[:, 0].sum(0, keepdim=True), value[:, 1].amax(0, keepdim=True), value[:, 2].amin(0, keepdim=True)]
    parts = context.group.all_gather(torch.cat([key, *extremes]))
    return parts[:, 0].contiguous(), parts[:, 1:].contiguous()


def output_rows(
    output: Tensor, inputs: QuantizedQKV, launch: LaunchConfig = LAUNCH_CONFIGS.requantize_rows
) -> tuple[Tensor, Tensor]:
    """Quantize the output of attention over e4m3 inputs for the next product: e4m3 rows, and their scales.

    Args:
        output: (groups, tokens, heads of a group, head_dim) e4m3, contiguous; one group, or one of each rank.
        inputs: the inputs of that attention.
        launch: the launch configuration; a tile is one token.

    Returns:
        (tokens, width) and (tokens, 1) float32, like `modulate_quantize`.
    """
    from wan_mcp.engine.attention.fused_qkv_triton import requantize_rows_kernel

    groups, tokens, heads, width = output.shape
    full = groups * heads * width
    rows = torch.empty((tokens, full), dtype=torch.float8_e4m3fn, device=output.device)
    scales = torch.empty((tokens, 1), dtype=torch.float32, device=output.device)
    requantize_rows_kernel[(launch.num_programs(tokens),)](
        output, inputs.value_mean, inputs.value_scale, rows, scales, tokens,
        HIDDEN_DIM=full, GROUP_DIM=heads * width, BLOCK_N=1 << (full - 1).bit_length(), TILES=launch.tiles,
        NUM_STAGES=launch.num_stages, num_warps=launch.num_warps,
    )  # fmt: skip
    return rows, scales


def quantize_projection_reference(projection: QKVProjection, context: ContextParallel | None = None) -> QuantizedQKV:
    """Compute `quantize_projection` in plain torch, on any device: the reference for the kernels."""
    query, key, value = replace(projection, qkv=projection.qkv.float()).to_qkv()
    heads, width, full, tokens = projection.heads, query.shape[-1], projection.width, query.shape[1]
    start = 0 if context is None else context.first_of_every(SAMPLE_STRIDE)
    partial_key = key[0, start::SAMPLE_STRIDE].sum(0).view(1, full)
    partial_value = torch.stack([value[0].sum(0), value[0].amax(0), value[0].amin(0)]).view(1, 3, full)
    if context is not None:
        partial_key, partial_value = _of_all_ranks(partial_key, partial_value, context)
        tokens = context.tokens
    key_mean = (partial_key.sum(0) / -(-tokens // SAMPLE_STRIDE)).view(heads, width)
    value_mean = partial_value[:, 0].sum(0) / tokens
    most, least = partial_value[:, 1].amax(0), partial_value[:, 2].amin(0)
    value_scale = torch.maximum(most - value_mean, value_mean - least).clamp(min=MIN_AMAX) / (HEADROOM * FP8_MAX)
    value_mean, value_scale = value_mean.view(heads, width), value_scale.view(heads, width)
    norms = torch.stack([projection.query_norm, projection.key_norm]).float().abs()
    query_bound, longest = full**0.5 * norms.view(2, heads, width).amax(2)
    key_bound = longest + torch.linalg.vector_norm(key_mean, dim=-1)
    bounds = torch.stack([query_bound.amax(), key_bound.amax()]).clamp(min=MIN_AMAX)
    rotation = hadamard(width, query.device).float() / width**0.5
    query_scale, key_scale = (bounds / FP8_MAX).split(1)
    exact = (
        query @ rotation / query_scale,
        (key - key_mean) @ rotation / key_scale,
        (value - value_mean) / value_scale,
    )
    query8, key8, value8 = (x.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn) for x in exact)
    if context is not None:
        query8, key8, value8 = (context.to_heads(x).finish()[None] for x in (query8, key8, value8))
    return QuantizedQKV(query8, key8, value8, query_scale, key_scale, value_scale, value_mean)


def output_rows_reference(output: Tensor, inputs: QuantizedQKV) -> tuple[Tensor, Tensor]:
    """Compute `output_rows` in plain torch, on any device."""
    by_token = output.float().transpose(0, 1).flatten(1, 2)
    return quantize_rowwise((by_token * inputs.value_scale + inputs.value_mean).flatten(1))
