"""Linear layers in the precision of a recipe, as plain functions of plain tensors, so that they can be exported.

`plain` multiplies in the precision of the activations. `fp8-rowwise` holds weights in e4m3 with one scale for each
output channel (see `quantize_weights`) and quantizes activations as they come with one scale for each token: the finest
scales that the hardware's matrix product takes without splitting its sum.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = [
    "FP8",
    "FP8_MAX",
    "MIN_GEMM_ROWS",
    "MIN_SCALE",
    "PLAIN",
    "QuantScheme",
    "linear",
    "product",
    "quantize_rowwise",
]

QuantScheme = Literal["plain", "fp8-rowwise"]
PLAIN: QuantScheme = "plain"
FP8: QuantScheme = "fp8-rowwise"

FP8_MAX: float = torch.finfo(torch.float8_e4m3fn).max
"""448, the largest number of e4m3 (OCP 8-bit floating point specification, without infinities)."""
MIN_GEMM_ROWS = 128
"""cuBLAS has no product of FP8 rows that are few and long: below this, rows of zeros are added."""
MIN_SCALE = 1e-12
"""A row of zeros needs some scale; any will do."""


def quantize_rowwise(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (…, n) in e4m3 and their float32 scales (…, 1): rows ≈ quantized * scale."""
    wide = rows.float()
    scale = (wide.abs().amax(-1, keepdim=True) / FP8_MAX).clamp(min=MIN_SCALE)
    return (wide / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def product(rows: tuple[Tensor, Tensor], layer: list[Tensor], recipe: QuantScheme, dtype: torch.dtype) -> Tensor:
    """The layer applied to prepared rows, (tokens, in) and their scales, giving (1, tokens, out) in `dtype`."""
    inputs, row_scales = rows
    if recipe == PLAIN:
        weight, bias = layer
        return F.linear(inputs, weight, bias)[None]
    weight, scale, bias = layer
    if inputs.is_cuda and (tokens := inputs.shape[0]) < MIN_GEMM_ROWS:
        missing = MIN_GEMM_ROWS - tokens
        # Made of other numbers first: not every operation of torch knows e4m3.
        filled = F.pad(inputs.view(torch.uint8), (0, 0, 0, missing)).view(inputs.dtype)
        rows = (filled, F.pad(row_scales, (0, 0, 0, missing), value=1.0))
        return product(rows, layer, recipe, dtype)[:, :tokens]
    made = torch._scaled_mm(
        inputs, weight.t(), scale_a=row_scales, scale_b=scale, bias=bias, out_dtype=dtype, use_fast_accum=True
    )
    return made[None]


def linear(inputs: Tensor, layer: list[Tensor], recipe: QuantScheme, dtype: torch.dtype) -> Tensor:
    """The layer applied to (1, tokens, in), giving (1, tokens, out) in `dtype`."""
    if recipe == PLAIN:
        return product((inputs[0].to(dtype), inputs), layer, recipe, dtype)
    return product(quantize_rowwise(inputs[0]), layer, recipe, dtype)
