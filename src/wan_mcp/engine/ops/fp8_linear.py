"""Linear layers in the precision of a scheme, as plain functions of plain tensors, so that they can be exported.

`plain` multiplies in the precision of the activations. `fp8-rowwise` stores weights in e4m3 with one scale per output
channel (see `quantize_weights`) and quantizes activations dynamically with one scale per token: the finest scales that
the hardware's matrix product supports without splitting its sum.
"""

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.torch_version import TorchVersion

__all__ = [
    "FP8",
    "FP8_MAX",
    "MIN_GEMM_ROWS",
    "MIN_SCALE",
    "PLAIN",
    "QuantScheme",
    "linear",
    "quantize_rowwise",
    "scaled_linear",
]

QuantScheme = Literal["plain", "fp8-rowwise"]
PLAIN: QuantScheme = "plain"
FP8: QuantScheme = "fp8-rowwise"

FP8_MAX: float = torch.finfo(torch.float8_e4m3fn).max
"""448, the largest number of e4m3 (OCP 8-bit floating point specification, without infinities)."""
MIN_GEMM_ROWS = 128
"""Minimum rows: cuBLAS has no FP8 product for few, long rows, so smaller inputs are padded with rows of zeros."""
MIN_SCALE = 1e-12
"""Minimum scale, for rows of zeros."""
CPU_SCALES_ROWS = TorchVersion(torch.__version__) >= "2.13"
"""Whether a CPU's FP8 product accepts a scale for each row. torch 2.11 accepts one for the tensor and refuses rows."""


def quantize_rowwise(x: Tensor) -> tuple[Tensor, Tensor]:
    """Quantize rows (…, n) to e4m3 with float32 scales (…, 1): x ≈ quantized * scale."""
    wide = x.float()
    scale = (wide.abs().amax(-1, keepdim=True) / FP8_MAX).clamp(min=MIN_SCALE)
    return (wide / scale).clamp(-FP8_MAX, FP8_MAX).to(torch.float8_e4m3fn), scale


def scaled_linear(x: tuple[Tensor, Tensor], layer: list[Tensor], scheme: QuantScheme, dtype: torch.dtype) -> Tensor:
    """Apply the layer to inputs (tokens, in), quantized with their scales; return (1, tokens, out) in `dtype`."""
    inputs, input_scale = x
    if scheme == PLAIN:
        weight, bias = layer
        return F.linear(inputs, weight, bias)[None]
    weight, scale, bias = layer
    if inputs.is_cuda and (tokens := inputs.shape[0]) < MIN_GEMM_ROWS:
        missing = MIN_GEMM_ROWS - tokens
        # Converted from another dtype: not every operation of torch supports e4m3.
        filled = F.pad(inputs.view(torch.uint8), (0, 0, 0, missing)).view(inputs.dtype)
        x = (filled, F.pad(input_scale, (0, 0, 0, missing), value=1.0))
        return scaled_linear(x, layer, scheme, dtype)[:, :tokens]
    if inputs.is_cuda or CPU_SCALES_ROWS:
        out = torch._scaled_mm(
            inputs, weight.t(), scale_a=input_scale, scale_b=scale, bias=bias, out_dtype=dtype, use_fast_accum=True
        )
    else:
        one = torch.ones((), device=inputs.device)
        product = torch._scaled_mm(inputs, weight.t(), scale_a=one, scale_b=one, out_dtype=torch.float32)
        out = (product * input_scale * scale + bias).to(dtype)
    return out[None]


def linear(inputs: Tensor, layer: list[Tensor], scheme: QuantScheme, dtype: torch.dtype) -> Tensor:
    """Apply the layer to (1, tokens, in); return (1, tokens, out) in `dtype`."""
    if scheme == PLAIN:
        return scaled_linear((inputs[0].to(dtype), inputs), layer, scheme, dtype)
    return scaled_linear(quantize_rowwise(inputs[0]), layer, scheme, dtype)
