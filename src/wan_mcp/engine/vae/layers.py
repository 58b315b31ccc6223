"""The layers of Wan's autoencoders for channels-last activations, one clip at a time.

Based on `autoencoder_kl_wan` of diffusers. The weights are the autoencoder's own tensors (convolutions are converted to
channels-last in place). Each layer that looks back in time stores the last frames that it read in `CausalState.cache`,
with itself as the key. A coder may therefore be used for several clips, one after another or at the same time.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.compat import causal_margin
from wan_mcp.engine.vae.activations import Activations, materialize, materialize_into, normalize_into, upsample_nearest
from wan_mcp.engine.vae.conv_selector import convolve, use_triton_conv

__all__ = [
    "CausalConvolution",
    "CausalState",
    "PixelAttention",
    "Resampling",
    "ResidualBlock",
    "linear_of",
    "tail_padded",
]

MULTIPLE = 8
"""Tensor cores need multiples of eight channels; others are padded with zeros, which does not change the sums."""


@dataclass
class CausalState:
    """The state of one clip in a coder."""

    cache: dict[Any, Tensor] = field(default_factory=dict)
    first: bool = True
    """Whether this is the first frame, which is processed differently."""


def tail_padded(value: Tensor, frames: int) -> Tensor:
    """Return `value` with its last frame repeated up to `frames` frames."""
    missing = frames - value.shape[0]
    return value if missing <= 0 else torch.cat([value, value[-1:].expand(missing, *value.shape[1:])])


def linear_of(conv: Any) -> tuple[Tensor, Tensor]:
    """Return weight (out, in) and bias of a 1x1 convolution."""
    return conv.weight.detach().flatten(1), conv.bias.detach()


def _channels_last(conv: Any, *, pad_inputs: bool = False, pad_outputs: bool = False) -> Tensor:
    """Return a convolution's weight, converted to channels-last in place, or a zero-padded copy if needed."""
    layout = torch.channels_last_3d if conv.weight.dim() == 5 else torch.channels_last
    conv.weight.data = conv.weight.data.to(memory_format=layout)
    weight: Tensor = conv.weight.detach()
    outputs = -weight.shape[0] % MULTIPLE if pad_outputs else 0
    inputs = -weight.shape[1] % MULTIPLE if pad_inputs else 0
    if outputs or inputs:
        padding = [0] * (2 * (weight.dim() - 2)) + [0, inputs, 0, outputs]
        weight = F.pad(weight, padding).contiguous(memory_format=layout)
    return weight


class CausalConvolution:
    """A causal convolution over time and space; `conv` is a `WanCausalConv3d`."""

    def __init__(self, conv: Any, **padding: bool) -> None:
        self._weight = _channels_last(conv, **padding)
        self.margin = causal_margin(conv)
        """How many pixels the kernel reaches on each side."""
        self.history = int(conv.kernel_size[0]) - 1
        self.inputs = int(self._weight.shape[1])
        self.bias = F.pad(conv.bias.detach(), (0, self._weight.shape[0] - conv.bias.shape[0]))
        self._ours = use_triton_conv(self._weight)
        self.border = 1 if self._ours else 0
        if self._ours:
            self._weight = self._weight.permute(0, 2, 3, 4, 1).reshape(self._weight.shape[0], -1).contiguous()

    def buffer(self, x: Activations, run: CausalState) -> tuple[Tensor, Tensor]:
        """Return a buffer for `run_on`, its history filled in, and the view for the frames of `x`, with border."""
        frames, border = self._read(x), self.border
        height, width = (size + 2 * border for size in x.value.shape[1:3])
        whole = x.value.new_empty(self.history + frames, height, width, self.inputs)
        past = run.cache.get(self)
        whole[: self.history] = 0 if past is None else past
        inside = whole[self.history : self.history + x.kept]
        if border:
            inside[:, :: height - 1] = 0
            inside[:, :, :: width - 1] = 0
        return whole, inside

    def run_on(self, whole: Tensor, x: Activations, run: CausalState) -> Activations:
        """Convolve a filled buffer; `x` are the activations that it was filled with."""
        end = self.history + x.kept
        whole[end:] = whole[end - 1]  # repeated last frames
        run.cache[self] = whole[-self.history :].clone() if self.history else whole[:0]
        if self._ours:
            return Activations(convolve(whole, self._weight, self.bias), x.length)
        return Activations(convolved(whole, self._weight, self.margin), x.length, self.bias)

    def _read(self, x: Activations) -> int:
        """Return the number of frames to compute: outputs repeat as soon as the kernel reads repeated frames only."""
        return min(x.length, x.kept + self.history) if x.length > x.kept else x.kept

    def halved(self, whole: Tensor) -> Tensor:
        """Return every second frame of the convolution over a buffer with its history."""
        return convolved(whole, self._weight, self.margin, stride=2)

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        """Convolve `x` without normalization."""
        whole, inside = self.buffer(x, run)
        materialize_into(inside, x, border=self.border)
        return self.run_on(whole, x, run)


def convolved(whole: Tensor, weight: Tensor, margin: int, stride: int = 1) -> Tensor:
    """Convolve (frames, height, width, channels) in 3-D, without padding in time."""
    out = F.conv3d(whole.permute(3, 0, 1, 2)[None], weight, None, (stride, 1, 1), (0, margin, margin))
    return out[0].permute(1, 2, 3, 0).contiguous()


class ResidualBlock:
    """Norm, SiLU and convolution, twice, with a shortcut; `block` is a `WanResidualBlock`."""

    def __init__(self, block: Any) -> None:
        self._gammas = [norm.gamma.detach().flatten() for norm in (block.norm1, block.norm2)]
        self._convolutions = [CausalConvolution(conv) for conv in (block.conv1, block.conv2)]
        self._shortcut = linear_of(block.conv_shortcut) if hasattr(block.conv_shortcut, "weight") else None

    def reach(self, beyond: int) -> int:
        """Return how far a pixel reads before this layer if it reads `beyond` pixels behind it."""
        return beyond + sum(conv.margin for conv in self._convolutions)

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        first, second = self._convolutions
        whole, inside = first.buffer(x, run)
        normalize_into(inside, x, self._gammas[0], active=True, keep=True, border=first.border)
        inner = first.run_on(whole, x, run)
        del whole, inside
        whole, inside = second.buffer(inner, run)
        normalize_into(inside, inner, self._gammas[1], active=True, keep=False, border=second.border)
        out = second.run_on(whole, inner, run)
        shortcut = x.value if self._shortcut is None else F.linear(x.value, *self._shortcut)
        out.residual = tail_padded(shortcut, out.kept)
        return out


class PixelAttention:
    """Single-head attention between the pixels of each frame; `block` is a `WanAttentionBlock`."""

    def __init__(self, block: Any) -> None:
        self._gamma = block.norm.gamma.detach().flatten()
        self._read = linear_of(block.to_qkv)
        self._write = linear_of(block.proj)

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        normal = torch.empty_like(x.value)
        normalize_into(normal, x, self._gamma, active=False, keep=True)
        pixels = normal.flatten(1, 2)
        query, key, value = F.linear(pixels, *self._read)[:, None].chunk(3, dim=-1)
        attended = F.scaled_dot_product_attention(query, key, value)[:, 0]
        weight, bias = self._write
        out = F.linear(attended, weight).view(x.value.shape)
        return Activations(out, x.length, bias, x.value)


class Resampling:
    """Up- or downsampling by two, with `time_conv` also in time; `resample` is a `WanResample`.

    The first frame stays one frame in both directions.
    """

    def __init__(self, resample: Any) -> None:
        self._up = resample.mode.startswith("up")
        flat = resample.resample[1]
        self._weight, self._bias = _channels_last(flat), flat.bias.detach()
        self._in_time = CausalConvolution(resample.time_conv) if resample.mode.endswith("3d") else None

    def reach(self, beyond: int) -> int:
        """Return how far a pixel reads before this upsampling if it reads `beyond` pixels behind it."""
        margin = 0 if self._in_time is None else self._in_time.margin
        return -(-(beyond + self._weight.shape[-1] // 2) // 2) + margin

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        return self._larger(x, run) if self._up else self._smaller(x, run)

    def _larger(self, x: Activations, run: CausalState) -> Activations:
        frames = 1
        if self._in_time is not None and not run.first:
            # The first frame is not cached here: the second has zeros before it.
            x, frames = self._in_time(x, run), 2
        large = upsample_nearest(x, frames)
        return Activations(self._flat(large, padding=1), x.length * frames, self._bias)

    def _smaller(self, x: Activations, run: CausalState) -> Activations:
        padded = F.pad(materialize(x), (0, 0, 0, 1, 0, 1))
        out = Activations(self._flat(padded, stride=2), x.length, self._bias)
        if self._in_time is None:
            return out
        value, past = materialize(out), run.cache.get(self)
        run.cache[self] = value[-1:].clone()
        if past is None:
            return out
        # Frame j of the output reads frames 2j - 1 to 2j + 1 of the input.
        still = -(-out.kept // 2) + 1 if out.length > out.kept else out.kept // 2
        frames = min(out.length // 2, still)
        whole = torch.cat([past, tail_padded(value, 2 * frames)[: 2 * frames]])
        return Activations(self._in_time.halved(whole), out.length // 2, self._in_time.bias)

    def _flat(self, value: Tensor, **how: int) -> Tensor:
        out = F.conv2d(value.permute(0, 3, 1, 2), self._weight, None, **how)
        return out.permute(0, 2, 3, 1).contiguous()
