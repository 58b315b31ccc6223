"""One pass over the memory for what eager torch does in several: Triton kernels for activations, channels last."""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["enlarge", "settle"]

TILE = 4096
"""Numbers that a program works on; enough to keep the memory busy, few enough for the registers of four warps."""


@triton.jit
def _settle(
    value,
    bias,
    residual,
    gamma,
    out,
    rows,
    scale,
    height,
    columns,
    border: tl.constexpr,
    channels: tl.constexpr,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    normalize: tl.constexpr,
    active: tl.constexpr,
    keep: tl.constexpr,
    to_out: tl.constexpr,
    block: tl.constexpr,
    width: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    channel = tl.arange(0, width)
    at = row[:, None] * channels + channel[None, :]
    inside = (row[:, None] < rows) & (channel[None, :] < channels)
    total = tl.load(value + at, inside, 0.0).to(tl.float32)
    if has_bias:
        total += tl.load(bias + channel, channel < channels, 0.0).to(tl.float32)[None, :]
    if has_residual:
        total += tl.load(residual + at, inside, 0.0).to(tl.float32)
    if keep:
        rounded = total.to(value.dtype.element_ty)
        tl.store(value + at, rounded, inside)
        total = rounded.to(tl.float32)
    if normalize:
        length = tl.maximum(tl.sqrt(tl.sum(total * total, 1)), 1e-12)
        weight = tl.load(gamma + channel, channel < channels, 0.0).to(tl.float32) * scale
        total = total / length[:, None] * weight[None, :]
        if active:
            total = total * tl.sigmoid(total)
    if to_out:
        if border > 0:
            x = row % columns + border
            y = (row // columns) % height + border
            t = row // (columns * height)
            row = (t * (height + 2 * border) + y) * (columns + 2 * border) + x
            at = row[:, None] * channels + channel[None, :]
        tl.store(out + at, total.to(out.dtype.element_ty), inside)


def settle(
    value: Tensor,
    bias: Tensor | None,
    residual: Tensor | None,
    *,
    out: Tensor | None = None,
    gamma: Tensor | None = None,
    active: bool = False,
    keep: bool = False,
    border: int = 0,
) -> None:
    """`value + bias + residual`, back into `value` if `keep`, and normalized by `gamma` or as it is into `out`.

    All are contiguous with channels last; see `activations` for the meaning. `out` has frames with a border of that
    many pixels, which is not written.
    """
    channels = value.shape[-1]
    rows = value.numel() // channels
    width = triton.next_power_of_2(channels)
    block = max(1, TILE // width)
    _settle[(triton.cdiv(rows, block),)](
        value,
        value if bias is None else bias,
        value if residual is None else residual,
        value if gamma is None else gamma,
        value if out is None else out,
        rows,
        channels**0.5,
        value.shape[1],
        value.shape[2],
        border=border,
        channels=channels,
        has_bias=bias is not None,
        has_residual=residual is not None,
        normalize=gamma is not None,
        active=active,
        keep=keep,
        to_out=out is not None,
        block=block,
        width=width,
    )


@triton.jit
def _enlarge(
    value,
    bias,
    residual,
    out,
    rows,
    height,
    columns,
    frames: tl.constexpr,
    channels: tl.constexpr,
    has_bias: tl.constexpr,
    has_residual: tl.constexpr,
    block: tl.constexpr,
    width: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)  # pixels, times the frames in one
    channel = tl.arange(0, width)
    at = row[:, None] * channels + channel[None, :]
    inside = (row[:, None] < rows) & (channel[None, :] < channels)
    total = tl.load(value + at, inside, 0.0).to(tl.float32)
    frame = row % frames
    if has_bias:
        where = frame[:, None] * channels + channel[None, :]
        total += tl.load(bias + where, channel[None, :] < channels, 0.0).to(tl.float32)
    if has_residual:
        total += tl.load(residual + at, inside, 0.0).to(tl.float32)
    pixel = row // frames
    x = pixel % columns
    y = (pixel // columns) % height
    t = pixel // (columns * height) * frames + frame
    corner = ((t * 2 * height + 2 * y) * 2 * columns + 2 * x) * channels
    to = corner[:, None] + channel[None, :]
    rounded = total.to(out.dtype.element_ty)
    tl.store(out + to, rounded, inside)
    tl.store(out + to + channels, rounded, inside)
    tl.store(out + to + 2 * columns * channels, rounded, inside)
    tl.store(out + to + (2 * columns + 1) * channels, rounded, inside)


def enlarge(value: Tensor, bias: Tensor | None, residual: Tensor | None, frames: int) -> Tensor:
    """The sum, each pixel four times, and `frames` frames out of each; see `activations.upsample_nearest`."""
    kept, height, columns, channels = value.shape
    channels //= frames
    out = torch.empty((kept * frames, 2 * height, 2 * columns, channels), dtype=value.dtype, device=value.device)
    rows = value.numel() // channels
    width = triton.next_power_of_2(channels)
    block = max(1, TILE // width)
    _enlarge[(triton.cdiv(rows, block),)](
        value,
        value if bias is None else bias,
        value if residual is None else residual,
        out,
        rows,
        height,
        columns,
        frames=frames,
        channels=channels,
        has_bias=bias is not None,
        has_residual=residual is not None,
        block=block,
        width=width,
    )
    return out
