"""One pass over the memory for what eager torch does in several: Triton kernels for activations, channels last.

Capitalized arguments are pointers to contiguous tensors, lower-case ones numbers, upper-case ones compile-time
constants. A row is a pixel's channels: a program handles BLOCK_M of them, each whole, in BLOCK_N lanes.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

__all__ = ["add_norm_silu", "upsample_nearest"]

BLOCK_SIZE = 4096
"""Numbers that a program works on; enough to keep the memory busy, few enough for the registers of four warps."""


@triton.jit(do_not_specialize=["num_rows", "height", "width"])
def _add_norm_silu_kernel(
    X, Bias, Residual, Gamma, Out, num_rows, norm_scale, height, width,
    PADDING: tl.constexpr, N_COLS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    NORM: tl.constexpr, SILU: tl.constexpr, STORE_SUM: tl.constexpr, STORE_OUT: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Add bias and residual to X, store the sum there, and store its RMS norm and SiLU in frames with a border.

    Each step is done where its constant says so. X and Residual are (frames, height, width, N_COLS), Bias and Gamma
    (N_COLS), Out (frames, height + 2 * PADDING, width + 2 * PADDING, N_COLS). `norm_scale` is the root of N_COLS.
    """
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs = offs_m[:, None] * N_COLS + offs_n[None, :]
    mask = (offs_m[:, None] < num_rows) & (offs_n[None, :] < N_COLS)
    x = tl.load(X + offs, mask, 0.0).to(tl.float32)
    if HAS_BIAS:
        x += tl.load(Bias + offs_n, offs_n < N_COLS, 0.0).to(tl.float32)[None, :]
    if HAS_RESIDUAL:
        x += tl.load(Residual + offs, mask, 0.0).to(tl.float32)
    if STORE_SUM:
        x_sum = x.to(X.dtype.element_ty)
        tl.store(X + offs, x_sum, mask)
        x = x_sum.to(tl.float32)
    if NORM:
        norm = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-12)
        gamma = tl.load(Gamma + offs_n, offs_n < N_COLS, 0.0).to(tl.float32) * norm_scale
        x = x / norm[:, None] * gamma[None, :]
        if SILU:
            x = x * tl.sigmoid(x)
    if STORE_OUT:
        if PADDING > 0:
            out_w = offs_m % width + PADDING
            out_h = (offs_m // width) % height + PADDING
            out_t = offs_m // (width * height)
            offs_m = (out_t * (height + 2 * PADDING) + out_h) * (width + 2 * PADDING) + out_w
            offs = offs_m[:, None] * N_COLS + offs_n[None, :]
        tl.store(Out + offs, x.to(Out.dtype.element_ty), mask)


def add_norm_silu(
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
    """Add `value + bias + residual`, back into `value` if `keep`, and normalized by `gamma` or as it is into `out`.

    All are contiguous with channels last; see `activations` for the meaning. `out` has frames with a border of that
    many pixels, which is not written.
    """
    channels = value.shape[-1]
    rows = value.numel() // channels
    block_n = triton.next_power_of_2(channels)
    block_m = max(1, BLOCK_SIZE // block_n)
    _add_norm_silu_kernel[(triton.cdiv(rows, block_m),)](
        value,
        value if bias is None else bias,
        value if residual is None else residual,
        value if gamma is None else gamma,
        value if out is None else out,
        rows,
        channels**0.5,
        value.shape[1],
        value.shape[2],
        PADDING=border,
        N_COLS=channels,
        HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        NORM=gamma is not None,
        SILU=active,
        STORE_SUM=keep,
        STORE_OUT=out is not None,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
    )


@triton.jit(do_not_specialize=["num_rows", "height", "width"])
def _upsample_nearest_kernel(
    X, Bias, Residual, Out, num_rows, height, width,
    FRAMES: tl.constexpr, N_COLS: tl.constexpr, HAS_BIAS: tl.constexpr, HAS_RESIDUAL: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """Add bias and residual to X and store each pixel four times, with the frames in its channels apart.

    X and Residual are (frames, height, width, FRAMES, N_COLS), where a row is one of FRAMES; Bias is (FRAMES, N_COLS),
    Out (frames * FRAMES, 2 * height, 2 * width, N_COLS).
    """
    offs_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    offs_n = tl.arange(0, BLOCK_N)
    offs = offs_m[:, None] * N_COLS + offs_n[None, :]
    mask = (offs_m[:, None] < num_rows) & (offs_n[None, :] < N_COLS)
    x = tl.load(X + offs, mask, 0.0).to(tl.float32)
    frame = offs_m % FRAMES
    if HAS_BIAS:
        offs_bias = frame[:, None] * N_COLS + offs_n[None, :]
        x += tl.load(Bias + offs_bias, offs_n[None, :] < N_COLS, 0.0).to(tl.float32)
    if HAS_RESIDUAL:
        x += tl.load(Residual + offs, mask, 0.0).to(tl.float32)
    pixel = offs_m // FRAMES
    off_w = pixel % width
    off_h = (pixel // width) % height
    off_t = pixel // (width * height) * FRAMES + frame
    corner = ((off_t * 2 * height + 2 * off_h) * 2 * width + 2 * off_w) * N_COLS
    offs_o = corner[:, None] + offs_n[None, :]
    out = x.to(Out.dtype.element_ty)
    tl.store(Out + offs_o, out, mask)
    tl.store(Out + offs_o + N_COLS, out, mask)
    tl.store(Out + offs_o + 2 * width * N_COLS, out, mask)
    tl.store(Out + offs_o + (2 * width + 1) * N_COLS, out, mask)


def upsample_nearest(value: Tensor, bias: Tensor | None, residual: Tensor | None, frames: int) -> Tensor:
    """Return the sum, each pixel four times and `frames` frames out of each; see `activations.upsample_nearest`."""
    kept, height, width, channels = value.shape
    channels //= frames
    out = torch.empty((kept * frames, 2 * height, 2 * width, channels), dtype=value.dtype, device=value.device)
    rows = value.numel() // channels
    block_n = triton.next_power_of_2(channels)
    block_m = max(1, BLOCK_SIZE // block_n)
    _upsample_nearest_kernel[(triton.cdiv(rows, block_m),)](
        value,
        value if bias is None else bias,
        value if residual is None else residual,
        out,
        rows,
        height,
        width,
        FRAMES=frames,
        N_COLS=channels,
        HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        BLOCK_M=block_m,
        BLOCK_N=block_n,
    )
    return out
