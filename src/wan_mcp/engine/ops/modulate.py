"""The operations between a block's matrix products, in plain torch. A row is a token's channels.

`modulate_triton` has the same four functions for GPUs, each one pass over memory; `fused_ops_for` selects the module.
`FusedOps` specifies them.
"""

import logging
from functools import cache
from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.ops.fp8_linear import quantize_rowwise
from wan_mcp.hardware.machine import MIN_FP8_CAPABILITY
from wan_mcp.text import first_line

__all__ = [
    "NO_CHUNK",
    "FusedOps",
    "apply_rotary_emb",
    "fused_ops_for",
    "gated_residual",
    "modulate_quantize",
    "qk_rms_norm_rope",
    "residual_modulate_quantize",
]

log = logging.getLogger(__name__)

NO_CHUNK = -1
"""Used as the index of a modulation chunk: no chunk."""


class FusedOps(Protocol):
    """The steps between a block's matrix products, as functions of tensors; implemented by modules.

    `temb` is (1, 6, n), or (1, tokens, 6, n) if each token has its own; plus `scale_shift_table` (1, 6, n) it is the
    modulation, six chunks. `gate` and `shift` are indices of chunks, or `NO_CHUNK`; the scale follows its shift. `gemm`
    is the output of the previous product.
    """

    def modulate_quantize(
        self,
        x: Tensor,
        temb: Tensor,
        scale_shift_table: Tensor,
        eps: float,
        shift: int,
        *,
        normalize: bool,
        gelu: bool,
        fp8: bool,
    ) -> tuple[Tensor, Tensor]:
        """Normalize and modulate `x` (1, tokens, n), apply GELU, and quantize it for the next product.

        Returns:
            (tokens, n) in e4m3 and scales (tokens, 1) float32, or in the dtype of `x` and no scales.
        """
        ...

    def residual_modulate_quantize(
        self,
        residual: Tensor,
        gemm: Tensor,
        temb: Tensor,
        scale_shift_table: Tensor,
        weight: Tensor,
        bias: Tensor,
        eps: float,
        gate: int,
        shift: int,
        *,
        normalize: bool,
        affine: bool,
        fp8: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Add `gemm` times its gate to the residual (1, tokens, n), and prepare it as `modulate_quantize` does.

        `weight` and `bias` (n) belong to the normalization, if `affine`. Without a gate, the factor is one.

        Returns:
            The sum, and what `modulate_quantize` returns.
        """
        ...

    def gated_residual(
        self, residual: Tensor, gemm: Tensor, temb: Tensor, scale_shift_table: Tensor, gate: int
    ) -> Tensor:
        """Add `gemm` times its gate to the residual (1, tokens, n)."""
        ...

    def qk_rms_norm_rope(
        self, x: Tensor, weights: list[Tensor], cos: Tensor, sin: Tensor, width: int, eps: float, *, rotate: bool
    ) -> Tensor:
        """Apply RMS norm, and the rotary embedding if `rotate`, to the first parts of `x` (1, tokens, n).

        Each part is `width` wide; there are as many as `weights` (width), one or two. Angles are as for
        `apply_rotary_emb`.

        Returns:
            (parts, tokens, width).
        """
        ...


@cache
def fused_ops_for(device: Any) -> FusedOps:
    """Return the ops for a `torch.device`: this module, or `modulate_triton` if Triton works."""
    from wan_mcp.engine.ops import modulate as plain_steps

    if device.type != "cuda":
        return plain_steps
    try:
        from wan_mcp.engine.ops import modulate_triton as kernels

        x = torch.zeros(1, 2, 64, dtype=torch.bfloat16, device=device)
        temb = torch.zeros(1, 6, 64, device=device)
        kernels.modulate_quantize(x, temb, temb, 1e-6, 0, normalize=True, gelu=False, fp8=False)
        if torch.cuda.get_device_capability(device) >= MIN_FP8_CAPABILITY:
            kernels.modulate_quantize(x, temb, temb, 1e-6, NO_CHUNK, normalize=False, gelu=True, fp8=True)
    except torch.OutOfMemoryError:  # temporary; an exception is not cached
        raise
    except Exception as error:  # without a C compiler, or on a GPU that Triton does not know
        log.warning("blocks run without their own GPU kernels: %s", first_line(error))
        return plain_steps
    return kernels


def modulate_quantize(
    x: Tensor,
    temb: Tensor,
    scale_shift_table: Tensor,
    eps: float,
    shift: int,
    *,
    normalize: bool,
    gelu: bool,
    fp8: bool,
) -> tuple[Tensor, Tensor]:
    """See `FusedOps`."""
    wide = x.float()
    if normalize:
        wide = F.layer_norm(wide, wide.shape[-1:], None, None, eps)
    wide = _modulated(wide, temb, scale_shift_table, shift)
    if gelu:
        wide = F.gelu(wide, approximate="tanh")
    return _prepared(wide, x.dtype, fp8=fp8)


def residual_modulate_quantize(
    residual: Tensor,
    gemm: Tensor,
    temb: Tensor,
    scale_shift_table: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    gate: int,
    shift: int,
    *,
    normalize: bool,
    affine: bool,
    fp8: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """See `FusedOps`."""
    added = gated_residual(residual, gemm, temb, scale_shift_table, gate)
    wide = added.float()
    if normalize:
        wide = F.layer_norm(wide, wide.shape[-1:], None, None, eps)
    if affine:
        wide = wide * weight + bias
    return added, *_prepared(_modulated(wide, temb, scale_shift_table, shift), residual.dtype, fp8=fp8)


def gated_residual(residual: Tensor, gemm: Tensor, temb: Tensor, scale_shift_table: Tensor, gate: int) -> Tensor:
    """See `FusedOps`."""
    if gate == NO_CHUNK:
        return residual + gemm
    return (residual.float() + gemm.float() * _chunk(temb, scale_shift_table, gate)).to(residual.dtype)


def qk_rms_norm_rope(
    x: Tensor, weights: list[Tensor], cos: Tensor, sin: Tensor, width: int, eps: float, *, rotate: bool
) -> Tensor:
    """See `FusedOps`."""
    parts = []
    for part, weight in zip(x[0].split(width, dim=-1), weights, strict=False):
        wide = part.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()
        parts.append(apply_rotary_emb(wide, cos, sin) if rotate else wide)
    return torch.stack(parts).to(x.dtype)


def apply_rotary_emb(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate each pair of neighbouring channels of a head of `x` (tokens, heads * width) by its angle.

    `cos` and `sin` are (tokens, width / 2). Su et al. 2021 (RoPE), in the pairing that Wan was trained with.
    """
    pairs = x.unflatten(-1, (-1, cos.shape[-1], 2))
    first, second = pairs[..., 0], pairs[..., 1]
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-3)


def _chunk(temb: Tensor, scale_shift_table: Tensor, number: int) -> Tensor:
    """Return a chunk of the modulation: (1, 1, n), or (1, tokens, n)."""
    if temb.dim() == 4:
        return scale_shift_table[:, number : number + 1] + temb[:, :, number]
    return scale_shift_table[:, number : number + 1] + temb[:, number : number + 1]


def _modulated(wide: Tensor, temb: Tensor, scale_shift_table: Tensor, shift: int) -> Tensor:
    if shift == NO_CHUNK:
        return wide
    return wide * (1 + _chunk(temb, scale_shift_table, shift + 1)) + _chunk(temb, scale_shift_table, shift)


def _prepared(wide: Tensor, dtype: torch.dtype, *, fp8: bool) -> tuple[Tensor, Tensor]:
    if fp8:
        return quantize_rowwise(wide[0])
    return wide[0].to(dtype), wide.new_empty((0, 1))
