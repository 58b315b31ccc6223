"""Self-attention in FP8 from the product of query, key and value to the rows of the next product, in few passes.

What `rounding` does to normalized and turned queries and keys is done here together with normalizing and turning them,
and what it does to the output together with rounding that for the next product. Nothing in 16 bits is written between.
Two things differ from `rounding`, and softmax notices neither:

- The keys lose the mean of a sample of them. Any constant vector may be taken from all keys, since it changes every
  score of a query by the same number; that of a sample shortens them as well as the true mean does.
- The scales of queries and keys come from a bound that needs no look at them. A row r of n channels in root mean square
  norm has a norm of at most √n, so what a head holds of it, times weights w, has at most √n · max|w|; turning keeps
  that, and taking a mean m from a key adds at most |m|. e4m3 is a floating-point format: a loose bound costs nothing
  before numbers fall among the subnormal ones, fifteen binades below the largest.

Values are looked at in full: their scale must be a true bound, as their range is that of the output.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import HEADROOM, MIN_AMAX, LaunchConfig, QuantizedQKV, hadamard
from wan_mcp.engine.ops.fp8_linear import FP8_MAX, quantize_rowwise
from wan_mcp.engine.ops.modulate import qk_rms_norm_rope

__all__ = [
    "LaunchConfigs",
    "QKVProjection",
    "output_rows",
    "output_rows_reference",
    "quantize_projection",
    "quantize_projection_reference",
]

EVERY = 11
"""One key in so many is in the sample. A prime, so that a picture's columns all have their turn."""


SAMPLE, SURVEY = LaunchConfig(16, 1, stages=3, group=2), LaunchConfig(8, 32, warps=2, stages=1, group=4)
HEADS, VALUES = LaunchConfig(8, 1, warps=8, stages=3, group=8), LaunchConfig(32, 4, stages=1, group=4)
ROWS = LaunchConfig(1, 16, warps=2, stages=3)


@dataclass(frozen=True)
class LaunchConfigs:
    """What one program of each pass does. The sample has one round; queries and keys need 16 lines (tokens * heads)."""

    sample: LaunchConfig = SAMPLE
    survey: LaunchConfig = SURVEY
    heads: LaunchConfig = HEADS
    values: LaunchConfig = VALUES
    rows: LaunchConfig = ROWS


LAUNCH_CONFIGS = LaunchConfigs()


@dataclass(frozen=True)
class QKVProjection:
    """The product of query, key and value of one block, and what makes these three of it."""

    product: Tensor
    """(1, tokens, 3 * width): query, key and value of each token."""
    query_norm: Tensor
    """(width): the weights of the normalization of a token's query, over all heads."""
    key_norm: Tensor
    cos: Tensor
    """(tokens, head width / 2) float32: of the angles by which pairs of neighbouring channels are turned."""
    sin: Tensor
    heads: int
    eps: float

    @property
    def width(self) -> int:
        """Of all heads."""
        return int(self.product.shape[-1]) // 3

    def part(self, number: int) -> Tensor:
        """Query, key or value as they are in the product, (1, tokens, heads, head width)."""
        some = self.product[..., number * self.width : (number + 1) * self.width]
        return torch.Tensor.unflatten(some, -1, (self.heads, -1))

    def to_qkv(
        self, normalize: Callable[[Tensor, list[Tensor], Tensor, Tensor, int, float, bool], Tensor] = qk_rms_norm_rope
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Query and key, normalized and turned, and value, (1, tokens, heads, head width) each."""
        norms = [self.query_norm, self.key_norm]
        made = normalize(self.product, norms, self.cos, self.sin, self.width, self.eps, True)
        query, key = made.unflatten(-1, (self.heads, -1)).split(1)
        return query, key, self.part(2)


def quantize_projection(joined: QKVProjection, launches: LaunchConfigs = LAUNCH_CONFIGS) -> QuantizedQKV:
    """The inputs of attention in e4m3, of a product on CUDA whose channels are contiguous."""
    from wan_mcp.engine.attention import fused_qkv_triton as kernels

    product, heads, full = joined.product, joined.heads, joined.width
    tokens, width, device = product.shape[1], full // heads, product.device
    stride, turning = product.stride(1), hadamard(width, device)
    cos, sin = joined.cos.contiguous(), joined.sin.contiguous()

    sampled, launch = -(-tokens // EVERY), launches.sample
    key_sums = torch.empty(launch.runs(sampled), full, device=device)
    kernels.sample_kernel[(len(key_sums),)](
        product, joined.key_norm, cos, sin, key_sums, tokens, stride, EVERY, joined.eps,
        heads, width, held=launch.held, group=launch.group, ahead=launch.stages, num_warps=launch.warps,
    )  # fmt: skip
    launch = launches.survey
    value_sums = torch.empty(launch.runs(tokens), 3, full, device=device)
    kernels.survey_values_kernel[(len(value_sums), -(-heads // launch.group))](
        product, value_sums, tokens, stride, full, columns=launch.group * width, ahead=launch.stages, **launch.options()
    )
    weights, means = torch.empty(2, 2, full, device=device).unbind()
    value_mean, value_scale = torch.empty(2, heads, width, device=device).unbind()
    bounds, scales = torch.empty(heads, 2, device=device), torch.empty(2, device=device)
    kernels.settle_jointly_kernel[(heads,)](
        key_sums, value_sums, joined.query_norm, joined.key_norm, weights, means, value_mean, value_scale, bounds,
        len(key_sums), len(value_sums), sampled, tokens, HEADROOM * FP8_MAX, full**0.5, full, width, held=32,
    )  # fmt: skip
    made = torch.empty(3, 1, tokens, heads, width, dtype=torch.float8_e4m3fn, device=device)
    launch = launches.heads
    kernels.cast_heads_kernel[(2 * launch.runs(tokens),)](
        product, weights, means, cos, sin, turning, bounds, made, scales, tokens, stride, joined.eps, width**0.5,
        heads, width, pairs=1 << (heads - 1).bit_length(), group=launch.group, ahead=launch.stages,
        **launch.options(),
    )  # fmt: skip
    launch = launches.values
    kernels.cast_values_kernel[(launch.runs(tokens), -(-heads // launch.group))](
        product, value_mean, value_scale, made[2], tokens, stride, full,
        columns=launch.group * width, ahead=launch.stages, **launch.options(),
    )  # fmt: skip
    return QuantizedQKV(made[0], made[1], made[2], scales[:1], scales[1:], value_scale, value_mean)


def output_rows(
    output: Tensor, inputs: QuantizedQKV, launch: LaunchConfig = LAUNCH_CONFIGS.rows
) -> tuple[Tensor, Tensor]:
    """The output of attention over rounded inputs as the next product takes it: e4m3 rows, and their scales.

    Args:
        output: (1, tokens, heads, head width) e4m3, contiguous.
        inputs: what attention was given.
        launch: what one program does; it has one token at once.

    Returns:
        (tokens, width) and (tokens, 1) float32, like `modulate_quantize`.
    """
    from wan_mcp.engine.attention.fused_qkv_triton import rows_kernel

    _, tokens, heads, width = output.shape
    full = heads * width
    rows = torch.empty((tokens, full), dtype=torch.float8_e4m3fn, device=output.device)
    scales = torch.empty((tokens, 1), dtype=torch.float32, device=output.device)
    rows_kernel[(launch.runs(tokens),)](
        output, inputs.value_mean, inputs.value_scale, rows, scales, tokens, full,
        block=1 << (full - 1).bit_length(), rounds=launch.rounds, ahead=launch.stages, num_warps=launch.warps,
    )  # fmt: skip
    return rows, scales


def quantize_projection_reference(joined: QKVProjection) -> QuantizedQKV:
    """`quantize_projection` in plain torch, on any device: what the kernels are measured by."""
    query, key, value = replace(joined, product=joined.product.float()).to_qkv()
    heads, width, root = joined.heads, query.shape[-1], joined.width**0.5
    key_mean, value_mean = key[:, ::EVERY].mean(1, keepdim=True), value.mean(1, keepdim=True)
    norms = torch.stack([joined.query_norm, joined.key_norm]).float().abs()
    query_bound, most = root * norms.view(2, heads, width).amax(2)
    key_bound = most + torch.linalg.vector_norm(key_mean, dim=-1).view(heads)
    bounds = torch.stack([query_bound.amax(), key_bound.amax()]).clamp(min=MIN_AMAX)
    reach = (value - value_mean).abs().amax(1, keepdim=True).clamp(min=MIN_AMAX)
    turning = hadamard(width, query.device).float() / width**0.5
    (query_scale, key_scale), value_scale = (bounds / FP8_MAX).split(1), reach / (HEADROOM * FP8_MAX)
    exact = (query @ turning / query_scale, (key - key_mean) @ turning / key_scale, (value - value_mean) / value_scale)
    query8, key8, value8 = (each.clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn) for each in exact)
    scales = (each.reshape(heads, width) for each in (value_scale, value_mean))
    return QuantizedQKV(query8, key8, value8, query_scale, key_scale, *scales)


def output_rows_reference(output: Tensor, inputs: QuantizedQKV) -> tuple[Tensor, Tensor]:
    """`output_rows` in plain torch, on any device."""
    return quantize_rowwise((output[0].float() * inputs.value_scale + inputs.value_mean).flatten(1))
