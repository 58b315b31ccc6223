"""One Wan block as a function of tensors: the same arithmetic eagerly, exported, quantised or not.

After `WanTransformerBlock` of diffusers, with four differences that do not change what it computes beyond rounding:
query, key and value are one product; the text's keys and values come from outside (they are the same at every step);
the rotary tables hold each angle once; and normalised activations stay in float32 until they are rounded once.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wan_mcp.engine.attention import attend_self
from wan_mcp.engine.blocks.linear import FP8, Recipe, linear
from wan_mcp.engine.blocks.shape import BlockShape

__all__ = [
    "BlockKind",
    "ExportableBlock",
    "parts_of_linear",
    "rotated",
    "run_block",
    "text_keys_and_values",
    "weight_names",
]

LINEARS = ("attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up", "ffn.down")
"""The layers of one block that a recipe applies to, beside those of the text."""


@dataclass(frozen=True)
class BlockKind:
    """All that a block's arithmetic depends on but its tensors."""

    shape: BlockShape
    recipe: Recipe
    dtype: torch.dtype
    """Of the residual stream and of what attention reads."""


def parts_of_linear(recipe: Recipe) -> tuple[str, ...]:
    """The names of a layer's tensors, in the order in which `linear` takes them."""
    return ("weight", "scale", "bias") if recipe == FP8 else ("weight", "bias")


def weight_names(kind: BlockKind) -> list[str]:
    """The names of a block's tensors, in the order in which `run_block` takes them."""
    names = ["scale_shift_table", "attn1.norm_q", "attn1.norm_k", "attn2.norm_q"]
    if kind.shape.cross_norm:
        names += ["norm2.weight", "norm2.bias"]
    return names + [f"{layer}.{part}" for layer in LINEARS for part in parts_of_linear(kind.recipe)]


def rotated(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Heads (1, tokens, heads, width), each pair of neighbouring channels turned by its angle.

    `cos` and `sin` are (tokens, width / 2). Su et al. 2021 (RoPE), in the pairing that Wan was trained with.
    """
    pairs = heads.float().unflatten(-1, (-1, 2))
    first, second = pairs[..., 0], pairs[..., 1]
    cos, sin = cos[None, :, None, :], sin[None, :, None, :]
    turned = torch.stack([first * cos - second * sin, first * sin + second * cos], -1)
    return turned.flatten(-2)


def _rms_normalised(rows: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = rows.float()
    return wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps) * weight.float()


def _layer_normalised(rows: Tensor, eps: float) -> Tensor:
    return F.layer_norm(rows.float(), rows.shape[-1:], None, None, eps)


def run_block(
    kind: BlockKind,
    hidden: Tensor,
    text_key: Tensor,
    text_value: Tensor,
    times: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: list[Tensor],
) -> Tensor:
    """The block applied to `hidden` (1, tokens, width), giving the same shape and dtype.

    Args:
        kind: what the block is.
        hidden: the residual stream.
        text_key: (1, text tokens, heads, head width), see `text_keys_and_values`.
        text_value: likewise.
        times: (1, 6, width), or (1, tokens, 6, width) where each token has its own.
        cos: (tokens, head width / 2), float32.
        sin: likewise.
        weights: the tensors of `weight_names`.
    """
    shape, recipe, dtype, eps = kind.shape, kind.recipe, kind.dtype, kind.shape.eps
    named = dict(zip(weight_names(kind), weights, strict=True))
    layers = {layer: [named[f"{layer}.{part}"] for part in parts_of_linear(recipe)] for layer in LINEARS}

    def apply(layer: str, inputs: Tensor) -> Tensor:
        return linear(inputs, layers[layer], recipe, dtype)

    table = named["scale_shift_table"].float()
    modulation = (table[None] if shape.times_per_token else table) + times.float()
    shift, scale, gate, ffn_shift, ffn_scale, ffn_gate = (
        part.squeeze(-2) if shape.times_per_token else part for part in modulation.chunk(6, dim=-2)
    )

    normalised = _layer_normalised(hidden, eps) * (1 + scale) + shift
    query, key, value = apply("attn1.qkv", normalised).split(shape.width, dim=-1)
    query, key = (
        rotated(_rms_normalised(rows, weight, eps).unflatten(-1, (shape.heads, -1)), cos, sin).to(dtype)
        for rows, weight in ((query, named["attn1.norm_q"]), (key, named["attn1.norm_k"]))
    )
    attended = attend_self(query, key, value.unflatten(-1, (shape.heads, -1)))
    hidden = (hidden.float() + apply("attn1.out", attended.flatten(-2)) * gate).to(dtype)

    normalised = hidden
    if shape.cross_norm:
        weight, bias = named["norm2.weight"].float(), named["norm2.bias"].float()
        normalised = F.layer_norm(hidden.float(), hidden.shape[-1:], weight, bias, eps)
    query = _rms_normalised(apply("attn2.q", normalised), named["attn2.norm_q"], eps).to(dtype)
    attended = F.scaled_dot_product_attention(
        query.unflatten(-1, (shape.heads, -1)).transpose(1, 2), text_key.transpose(1, 2), text_value.transpose(1, 2)
    )
    hidden = hidden + apply("attn2.out", attended.transpose(1, 2).flatten(-2))

    normalised = _layer_normalised(hidden, eps) * (1 + ffn_scale) + ffn_shift
    inner = F.gelu(apply("ffn.up", normalised).float(), approximate="tanh")
    return (hidden.float() + apply("ffn.down", inner).float() * ffn_gate).to(dtype)


def text_keys_and_values(kind: BlockKind, text: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Keys and values (1, text tokens, heads, head width) of the text (1, text tokens, width).

    `weights` are the tensors of the layer that gives both, and the key's normalisation.
    """
    *layer, norm = weights
    key, value = linear(text, layer, kind.recipe, kind.dtype).split(kind.shape.width, dim=-1)
    key = _rms_normalised(key, norm, kind.shape.eps).to(kind.dtype)
    heads = (kind.shape.heads, -1)
    return key.unflatten(-1, heads).contiguous(), value.unflatten(-1, heads).contiguous()


class ExportableBlock(nn.Module):  # type: ignore[misc]
    """`run_block` as a module without parameters, which is what `torch.export` takes: the weights are inputs.

    So one compiled package serves every layer and every denoiser of a kind, and owns none of their tensors.
    """

    def __init__(self, kind: BlockKind) -> None:
        super().__init__()
        self._kind = kind

    def forward(
        self,
        hidden: Tensor,
        text_key: Tensor,
        text_value: Tensor,
        times: Tensor,
        cos: Tensor,
        sin: Tensor,
        weights: list[Tensor],
    ) -> Tensor:
        return run_block(self._kind, hidden, text_key, text_value, times, cos, sin, weights)
