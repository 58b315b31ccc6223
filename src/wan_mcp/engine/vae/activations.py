"""Activations between the layers: channels-last, with pending additions, and repeated last frames stored once.

A convolution's bias and a block's shortcut are not added immediately; the next layer adds them in the pass in which it
reads the activations.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["Activations", "materialize", "materialize_into", "normalize_into", "upsample_nearest"]


@dataclass
class Activations:
    """The activations of one clip at one layer: `value + bias + residual`."""

    value: Tensor
    """(frames kept, height, width, channels), contiguous, not shared: it may be overwritten."""
    length: int
    """Number of frames; those after the ones kept equal the last one."""
    bias: Tensor | None = None
    """(channels)."""
    residual: Tensor | None = None
    """Shaped as `value`; never written to."""

    @property
    def kept(self) -> int:
        """Return the number of frames kept."""
        return int(self.value.shape[0])


def materialize(x: Activations) -> Tensor:
    """Return the sum, computed in place in `value`; `x` is updated to it."""
    if x.bias is not None or x.residual is not None:
        if x.value.is_cuda:
            _kernels().add_norm_silu(x.value, x.bias, x.residual, keep=True)
        else:
            x.value = _sum(x)
        x.bias = x.residual = None
    return x.value


def materialize_into(out: Tensor, x: Activations, *, border: int = 0) -> None:
    """Write the sum into `out`, whose frames have a border of `border` pixels; `x` must not be read again."""
    if x.value.is_cuda:
        _kernels().add_norm_silu(x.value, x.bias, x.residual, out=out, border=border)
    else:
        _within(out, border).copy_(_sum(x))


def normalize_into(out: Tensor, x: Activations, gamma: Tensor, *, active: bool, keep: bool, border: int = 0) -> None:
    """Write the RMS norm over the channels, with SiLU if `active`, into `out`, see `materialize_into`.

    With `keep`, `x` is the materialized sum afterwards; without, it must not be read again. As in `WanRMS_norm`:
    `x / max(|x|, 1e-12) * sqrt(channels) * gamma`.
    """
    if x.value.is_cuda:
        _kernels().add_norm_silu(
            x.value, x.bias, x.residual, out=out, gamma=gamma, active=active, keep=keep, border=border
        )
        if keep:
            x.bias = x.residual = None
        return
    value = _sum(x)
    normal = F.normalize(value.float(), dim=-1) * value.shape[-1] ** 0.5 * gamma.float()
    _within(out, border).copy_(F.silu(normal) if active else normal)
    if keep:
        x.value, x.bias, x.residual = value, None, None


def upsample_nearest(x: Activations, frames: int) -> Tensor:
    """Double height and width (nearest neighbour), and unpack `frames` frames from the channels.

    (frames kept, height, width, frames * channels) becomes (frames kept * frames, 2 height, 2 width, channels).
    """
    kept, height, width, channels = x.value.shape
    channels //= frames
    if x.value.is_cuda:
        upsampled: Tensor = _kernels().upsample_nearest(x.value, x.bias, x.residual, frames)
        return upsampled
    value = _sum(x).view(kept, height, 1, width, 1, frames, channels).permute(0, 5, 1, 2, 3, 4, 6)
    return value.expand(-1, -1, -1, 2, -1, 2, -1).reshape(kept * frames, 2 * height, 2 * width, channels)


def _within(frames: Tensor, border: int) -> Tensor:
    return frames[:, border:-border, border:-border] if border else frames


def _sum(x: Activations) -> Tensor:
    value = x.value
    if x.bias is not None:
        value = value + x.bias
    if x.residual is not None:
        value = value + x.residual
    return value


@cache
def _kernels() -> Any:
    """Import the fused kernels on demand; Triton is only available with a GPU."""
    from wan_mcp.engine.vae import norm_triton as kernels

    return kernels
