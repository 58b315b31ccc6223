"""A 3x3x3 convolution for few channels, channels last, in Triton; cuDNN is the quicker one from 128 channels on.

The frames lie in rows of pixels with a border of zeros, so that each of the 27 taps is the same matrix product, begun
some rows further on: what a program reads is always one box of a matrix, which Hopper's copy engine fetches.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

__all__ = ["convolve_narrow"]

PIXELS = 256
"""Of one program."""
DEPTH = 32
"""Channels in one step."""


@triton.jit  # type: ignore[untyped-decorator]
def _convolve(  # type: ignore[no-untyped-def]
    pixels,
    weight,
    bias,
    out,
    frames,
    height,
    columns,
    channels: tl.constexpr,
    outputs: tl.constexpr,
    block: tl.constexpr,
    width: tl.constexpr,
    depth: tl.constexpr,
):
    first = tl.program_id(0) * block
    pitch = columns + 2
    plane = (height + 2) * pitch
    total = tl.zeros((block, width), tl.float32)
    steps: tl.constexpr = channels // depth
    for step in range(27 * steps):
        tap = step // steps
        channel = (step % steps) * depth
        ahead = (tap // 9) * plane + (tap // 3 % 3) * pitch + tap % 3
        seen = pixels.load([first + ahead, channel])
        factors = weight.load([0, step * depth])
        total = tl.dot(seen, factors.T, total)
    at = first + tl.arange(0, block)
    x = at % pitch
    y = (at // pitch) % (height + 2)
    t = at // plane
    output = tl.arange(0, width)
    total += tl.load(bias + output, output < outputs, 0.0).to(tl.float32)[None, :]
    inside = ((x < columns) & (y < height) & (t < frames))[:, None] & (output < outputs)[None, :]
    row = ((t * height + y) * columns + x).to(tl.int64)
    tl.store(out + row[:, None] * outputs + output[None, :], total.to(out.dtype.element_ty), inside)


def convolve_narrow(padded: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The convolution, (frames, height, width, outputs), of `padded` (frames + 2, height + 2, width + 2, channels).

    Args:
        padded: with a border of zeros around each frame, contiguous.
        weight: (outputs, 27 * channels), the taps in the order time, row, column, then the channels.
        bias: (outputs).
    """
    frames, height, columns, channels = padded.shape
    frames, height, columns = frames - 2, height - 2, columns - 2
    outputs = weight.shape[0]
    width = max(16, triton.next_power_of_2(outputs))
    out = torch.empty((frames, height, columns, outputs), dtype=padded.dtype, device=padded.device)
    rows = frames * (height + 2) * (columns + 2)
    _convolve[(triton.cdiv(rows, PIXELS),)](
        TensorDescriptor.from_tensor(padded.view(-1, channels), [PIXELS, DEPTH]),
        TensorDescriptor.from_tensor(weight, [width, DEPTH]),
        bias,
        out,
        frames,
        height,
        columns,
        channels=channels,
        outputs=outputs,
        block=PIXELS,
        width=width,
        depth=DEPTH,
        num_warps=8,
        num_stages=4,
    )
    return out
