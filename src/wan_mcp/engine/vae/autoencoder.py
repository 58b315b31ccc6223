"""The encoder and decoder of an `AutoencoderKLWan`, a few frames per call, with an explicit causal state.

Every layer is causal in time. The first frame is processed alone, as in training; after it, the number of frames per
call changes the result only by rounding.
"""

import math
from typing import Any

import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.vae.activations import Activations, materialize, normalize_into
from wan_mcp.engine.vae.layers import (
    CausalConvolution,
    CausalState,
    PixelAttention,
    Resampling,
    ResidualBlock,
    linear_of,
    tail_padded,
)
from wan_mcp.engine.vae.strips import Strip

__all__ = ["Decoder", "Encoder", "is_supported"]


def is_supported(vae: Any) -> bool:
    """Check whether this module supports the configuration of an `AutoencoderKLWan`."""
    config = vae.config
    return type(vae).__name__ == "AutoencoderKLWan" and not config.attn_scales and not config.dropout


class _Ends:
    """The layers that encoder and decoder share: the first convolution, the middle, and the last convolution."""

    def __init__(self, half: Any) -> None:
        self._first = CausalConvolution(half.conv_in, pad_inputs=True)
        middle = half.mid_block
        self._middle: list[Any] = [ResidualBlock(middle.resnets[0])]
        for attention, block in zip(middle.attentions, middle.resnets[1:], strict=True):
            self._middle += [PixelAttention(attention), ResidualBlock(block)]
        self._gamma = half.norm_out.gamma.detach().flatten()
        self._last = CausalConvolution(half.conv_out, pad_outputs=True)
        self._channels = int(half.conv_out.out_channels)

    def _begin(self, value: Tensor, length: int, run: CausalState) -> Activations:
        padded = F.pad(value, (0, self._first.inputs - value.shape[-1])) if self._first.inputs else value
        return self._first(Activations(padded.contiguous(), length), run)

    def _end(self, x: Activations, run: CausalState) -> Activations:
        whole, inside = self._last.buffer(x, run)
        normalize_into(inside, x, self._gamma, active=True, keep=False, border=self._last.border)
        out = self._last.run_on(whole, x, run)
        run.first = False
        return out


class Decoder(_Ends):
    """From latents to pixels."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae.decoder)
        self._mix = linear_of(vae.post_quant_conv)
        self._patch = int(vae.config.patch_size or 1)
        self._blocks = [_UpBlock(block) for block in vae.decoder.up_blocks]

    @property
    def reach(self) -> int:
        """Return how far a pixel reads on each side behind the middle, in latent pixels.

        The middle attends to whole frames.
        """
        reach = self._last.margin
        for block in reversed(self._blocks):
            reach = block.reach(reach)
        return reach

    def __call__(self, latents: Tensor, run: CausalState, strip: Strip | None = None) -> Tensor:
        """Decode latents (frames, height, width, channels) to pixels (images, height, width, 3), float32, not clamped.

        The first call of a clip takes one latent frame and returns one image; after it, each frame becomes four. With
        `strip`, the pixels are those of a part of each frame.
        """
        x = self._begin(F.linear(latents, *self._mix), latents.shape[0], run)
        for part in self._middle:
            x = part(x, run)
        if strip is not None:
            x = Activations(strip.read(materialize(x)).contiguous(), x.length)
        for block in self._blocks:
            x = block(x, run)
        x = self._end(x, run)
        value = x.value[..., : self._channels].float()
        if x.bias is not None:
            value += x.bias[: self._channels].float()
        pixels = _unpatched(value, self._patch)
        return pixels if strip is None else strip.keep(pixels)


class Encoder(_Ends):
    """From pixels to latents."""

    def __init__(self, vae: Any) -> None:
        super().__init__(vae.encoder)
        self._mix = linear_of(vae.quant_conv)
        self._patch = int(vae.config.patch_size or 1)
        if vae.config.is_residual:
            self._blocks: list[Any] = [_DownBlock(block) for block in vae.encoder.down_blocks]
        else:
            self._blocks = [_part(part) for part in vae.encoder.down_blocks]

    def __call__(self, pixels: Tensor, length: int, run: CausalState) -> Tensor:
        """Encode pixels (images kept, height, width, 3); return means and log-variances.

        They are (frames, height, width, 2 * channels). Images after those kept, up to `length`, equal the last one.
        The first call of a clip takes one image, every other call a multiple of four.
        """
        x = self._begin(_patched(pixels, self._patch), length, run)
        for part in (*self._blocks, *self._middle):
            x = part(x, run)
        x = self._end(x, run)
        out = materialize(x)[..., : self._channels]
        return tail_padded(F.linear(out, *self._mix), x.length)


def _part(module: Any) -> Any:
    return {"WanResidualBlock": ResidualBlock, "WanResample": Resampling}[type(module).__name__](module)


class _UpBlock:
    """Residual blocks followed by upsampling; in the second generation with a shortcut around both."""

    def __init__(self, block: Any) -> None:
        upsamplers = getattr(block, "upsamplers", None)
        up = upsamplers[0] if upsamplers else getattr(block, "upsampler", None)
        self._parts: list[Any] = [ResidualBlock(part) for part in block.resnets]
        if up is not None:
            self._parts.append(Resampling(up))
        self._shortcut = getattr(block, "avg_shortcut", None)

    def reach(self, beyond: int) -> int:
        """Return how far a pixel reads before this block if it reads `beyond` pixels behind it."""
        for part in reversed(self._parts):
            beyond = part.reach(beyond)
        return beyond

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        if self._shortcut is None:
            for part in self._parts:
                x = part(x, run)
            return x
        entered = materialize(x)
        for part in self._parts:
            x = part(x, run)
        return _with_duplicates(x, entered, self._shortcut, run)


def _with_duplicates(x: Activations, entered: Tensor, shortcut: Any, run: CausalState) -> Activations:
    """Return `x` plus the block's input, its channels repeated over the upsampled pixels as in `DupUp3D`."""
    frames, height, width, _ = entered.shape
    factors = [shortcut.factor_t, shortcut.factor_s, shortcut.factor_s]
    kept, repeats = list(factors), shortcut.repeats
    for place in (2, 1, 0):  # neighbouring outputs share a channel: broadcast it instead of copying
        if repeats % kept[place] == 0:
            repeats //= kept[place]
            kept[place] = 1
    if repeats > 1:
        entered, kept = entered.repeat_interleave(shortcut.repeats, dim=-1), factors
    spread = entered.view(frames, height, width, shortcut.out_channels, *kept).permute(0, 4, 1, 5, 2, 6, 3)
    if run.first:
        spread = spread[:, -1:]
    value = materialize(x)
    pairs = value.shape[0] // frames
    cells = value.view(frames, pairs, height, factors[1], width, factors[2], shortcut.out_channels)
    cells += spread
    return x


class _DownBlock:
    """Residual blocks followed by downsampling, with a shortcut of means around both."""

    def __init__(self, block: Any) -> None:
        self._parts: list[Any] = [ResidualBlock(part) for part in block.resnets]
        if block.downsampler is not None:
            self._parts.append(Resampling(block.downsampler))
        self._shortcut = block.avg_shortcut

    def __call__(self, x: Activations, run: CausalState) -> Activations:
        entered = Activations(materialize(x), x.length)
        for part in self._parts:
            x = part(x, run)
        means = _means(entered, self._shortcut)
        value = tail_padded(materialize(x), means.shape[0])
        return Activations(value, x.length, residual=tail_padded(means, value.shape[0]))


def _means(x: Activations, shortcut: Any) -> Tensor:
    """Average groups of neighbouring pixels and channels, as in `AvgDown3D`."""
    in_time, in_space = shortcut.factor_t, shortcut.factor_s
    value = x.value
    if x.length == 1:
        value = F.pad(value, (0, 0, 0, 0, 0, 0, in_time - 1, 0))
    elif x.length > x.kept:
        still = math.ceil((x.kept - 1) / in_time) + 1
        value = tail_padded(value, min(x.length, still * in_time))
    frames, height, width, channels = value.shape
    cells = value.view(frames // in_time, in_time, height // in_space, in_space, width // in_space, in_space, channels)
    grouped = cells.permute(0, 2, 4, 6, 1, 3, 5).reshape(
        frames // in_time, height // in_space, width // in_space, shortcut.out_channels, shortcut.group_size
    )
    return grouped.mean(-1)


def _unpatched(value: Tensor, size: int) -> Tensor:
    """Return the channels (colour, column, row) of each cell as its pixels."""
    if size == 1:
        return value
    frames, height, width, _ = value.shape
    cells = value.view(frames, height, width, -1, size, size).permute(0, 1, 5, 2, 4, 3)
    return cells.reshape(frames, height * size, width * size, -1)


def _patched(pixels: Tensor, size: int) -> Tensor:
    """Invert `_unpatched`."""
    if size == 1:
        return pixels
    frames, height, width, colours = pixels.shape
    cells = pixels.view(frames, height // size, size, width // size, size, colours).permute(0, 1, 3, 5, 4, 2)
    return cells.reshape(frames, height // size, width // size, colours * size * size)
