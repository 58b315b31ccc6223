"""Quantize weights with torchao: FP8 rows for the blocks of a denoiser, int8 groups for a text encoder.

Kernels and packages read the plain tensors of the result, `qdata` and `scale`. Activations are quantized where they
are computed, by `fp8_linear.quantize_rowwise` and its Triton kernels.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from wan_mcp.engine.ops.fp8_linear import FP8_MAX, MIN_SCALE, PLAIN, QuantScheme

if TYPE_CHECKING:
    from torchao.quantization import Int8Tensor

__all__ = ["quantize_fp8_rowwise", "quantize_int8_groupwise", "quantize_linear"]

# torchao is imported by the functions that need it: the import takes seconds, and an engine can start without it.

CPU_CHUNK = 1 << 19
"""Weights quantized at a time on a CPU: 2 MB in float32, which stay in its cache between operations. A whole layer of
42 million at once takes 2 to 3 times as long (`benchmarks/results/torchao_weights.json`)."""
CHUNK = 1 << 26
"""The same on other devices: 268 MB in float32, so that quantizing needs little more memory than its result."""


def quantize_fp8_rowwise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return a weight (out, in) in e4m3, and its float32 scales (out, 1): weight ≈ quantized * scale.

    The bits are those of `fp8_linear.quantize_rowwise`.
    """
    from torchao.quantization import Float8Tensor, PerRow

    quantized = torch.empty_like(weight, dtype=torch.float8_e4m3fn, memory_format=torch.contiguous_format)
    scale = torch.empty(weight.shape[0], 1, device=weight.device)
    for chunk in _chunks(weight):
        # In float32, since torchao rounds the scales to the dtype of the weights. The lower bound avoids a
        # division by zero in rows of zeros. It also keeps torchao from using another installed kernel with other bits.
        part = Float8Tensor.from_hp(weight[chunk].float(), granularity=PerRow(), hp_value_lb=FP8_MAX * MIN_SCALE)
        quantized[chunk], scale[chunk] = part.qdata, part.scale
    return quantized, scale


def quantize_int8_groupwise(weight: Tensor, group_size: int) -> "Int8Tensor":
    """Return a weight (out, in) as a tensor for `nn.Linear` that is stored in int8, with a scale for each group.

    A product with it is computed in the dtype of the activations. It is what `Int8WeightOnlyConfig` with
    `PerGroup(group_size)` makes, without the zero points, which are all zero.

    Args:
        weight: of shape (out, in).
        group_size: weights of a row that share a float32 scale; divides `in`.
    """
    from torchao.quantization import Int8Tensor, PerGroup

    quantized = torch.empty_like(weight, dtype=torch.int8, memory_format=torch.contiguous_format)
    scale = torch.empty(weight.shape[0], weight.shape[1] // group_size, device=weight.device)
    for chunk in _chunks(weight):
        part = Int8Tensor.from_hp(weight[chunk], granularity=PerGroup(group_size))
        quantized[chunk], scale[chunk] = part.qdata, part.scale
    return Int8Tensor(quantized, scale, [1, group_size], weight.dtype)


def quantize_linear(weight: Tensor, bias: Tensor, scheme: QuantScheme, dtype: torch.dtype) -> list[Tensor]:
    """Return the tensors of a layer (out, in) for `fp8_linear.linear`.

    These are weight and bias; in FP8, the weight's scales (1, out) are between them.
    """
    if scheme == PLAIN:
        return [weight.to(dtype).contiguous(), bias.to(dtype).contiguous()]
    quantized, scale = quantize_fp8_rowwise(weight)
    return [quantized, scale.view(1, -1), bias.to(dtype).contiguous()]


def _chunks(weight: Tensor) -> Iterator[slice]:
    """Yield slices of rows to quantize at a time."""
    out_features, in_features = weight.shape
    step = max(1, (CPU_CHUNK if weight.device.type == "cpu" else CHUNK) // in_features)
    for first in range(0, out_features, step):
        yield slice(first, min(first + step, out_features))
