"""One Wan block as a function of tensors: the same arithmetic eagerly, exported, quantized or not.

Based on `WanTransformerBlock` of diffusers, with four differences that change the result only by rounding: query, key
and value are one product; the text's keys and values are inputs (they are the same at every step); the rotary tables
store each angle once; and normalized activations stay in float32 until they are quantized or cast, once. The steps
between the products are `modulate` in plain torch and `modulate_triton` on GPUs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from wan_mcp.engine.attention import attend_self
from wan_mcp.engine.attention.cross_attention import attend_context
from wan_mcp.engine.ops import modulate as plain_steps
from wan_mcp.engine.ops.fp8_linear import FP8, QuantScheme, linear, scaled_linear
from wan_mcp.engine.ops.modulate import NO_CHUNK, fused_ops_for
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.engine.transformer.self_attention import fused_self_attention, uses_fused_attention

__all__ = [
    "BlockKind",
    "ExportableBlock",
    "context_keys_values",
    "linear_parts",
    "run_block",
    "weight_names",
]

LINEARS = ("attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up", "ffn.down")
"""The layers of one block that a scheme applies to, except the text's layers."""
SHIFT, GATE, FFN_SHIFT, FFN_GATE = 0, 2, 3, 5
"""Indices of modulation chunks. The scale follows its shift."""


@dataclass(frozen=True)
class BlockKind:
    """Everything that a block's arithmetic depends on, except its tensors."""

    shape: BlockShape
    scheme: QuantScheme
    dtype: torch.dtype
    """Dtype of the residual stream and of attention's inputs."""


def linear_parts(scheme: QuantScheme) -> tuple[str, ...]:
    """Return the names of a layer's tensors, in the order of `linear`'s parameters."""
    return ("weight", "scale", "bias") if scheme == FP8 else ("weight", "bias")


def weight_names(kind: BlockKind) -> list[str]:
    """Return the names of a block's tensors, in the order of `run_block`'s `weights`."""
    names = ["scale_shift_table", "attn1.norm_q", "attn1.norm_k", "attn2.norm_q"]
    if kind.shape.cross_norm:
        names += ["norm2.weight", "norm2.bias"]
    return names + [f"{layer}.{part}" for layer in LINEARS for part in linear_parts(kind.scheme)]


def run_block(
    kind: BlockKind,
    hidden: Tensor,
    text_key: Tensor,
    text_value: Tensor,
    padding: Tensor,
    temb: Tensor,
    cos: Tensor,
    sin: Tensor,
    weights: list[Tensor],
) -> Tensor:
    """Apply the block to `hidden` (1, tokens, width); return the same shape and dtype.

    Args:
        kind: the block's shape, scheme and dtype.
        hidden: the residual stream.
        text_key: (1, text tokens, heads, head_dim), see `context_keys_values`.
        text_value: likewise.
        padding: (1), float32: the number of text tokens that the last key and value represent.
        temb: (1, 6, width), or (1, tokens, 6, width) if each token has its own.
        cos: (tokens, head_dim / 2), float32.
        sin: likewise.
        weights: the tensors of `weight_names`.
    """
    shape, scheme, dtype, eps = kind.shape, kind.scheme, kind.dtype, kind.shape.eps
    fp8 = scheme == FP8
    steps = fused_ops_for(hidden.device)
    named = dict(zip(weight_names(kind), weights, strict=True))
    layers = {layer: [named[f"{layer}.{part}"] for part in linear_parts(scheme)] for layer in LINEARS}
    scale_shift_table = named["scale_shift_table"]

    def apply(layer: str, x: tuple[Tensor, Tensor]) -> Tensor:
        return scaled_linear(x, layers[layer], scheme, dtype)

    def in_heads(x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (shape.heads, shape.head_dim))

    def prepared(
        x: Tensor, *, shift: int = NO_CHUNK, normalize: bool = False, gelu: bool = False
    ) -> tuple[Tensor, Tensor]:
        return steps.modulate_quantize(x, temb, scale_shift_table, eps, shift, normalize=normalize, gelu=gelu, fp8=fp8)

    def added(
        to: Tensor, what: Tensor, *, gate: int = NO_CHUNK, shift: int = NO_CHUNK, norm: str | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        weight, bias = (
            (named[f"{norm}.weight"], named[f"{norm}.bias"]) if norm else (scale_shift_table, scale_shift_table)
        )
        affine = norm is not None
        sum_, inputs, scales = steps.residual_modulate_quantize(
            to, what, temb, scale_shift_table, weight, bias, eps, gate, shift,
            normalize=affine or shift != NO_CHUNK, affine=affine, fp8=fp8,
        )  # fmt: skip
        return sum_, (inputs, scales)

    qkv = apply("attn1.qkv", prepared(hidden, shift=SHIFT, normalize=True))
    norms = [named["attn1.norm_q"], named["attn1.norm_k"]]
    if uses_fused_attention(scheme, hidden.device):
        inputs = fused_self_attention(qkv, *norms, cos, sin, shape.heads, eps)
    else:
        query, key = in_heads(steps.qk_rms_norm_rope(qkv, norms, cos, sin, shape.width, eps, rotate=True)).split(1)
        inputs = prepared(attend_self(query, key, in_heads(qkv[..., 2 * shape.width :])).flatten(-2))
    attended = apply("attn1.out", inputs)

    hidden, inputs = added(hidden, attended, gate=GATE, norm="norm2" if shape.cross_norm else None)
    query = apply("attn2.q", inputs)
    query = in_heads(steps.qk_rms_norm_rope(query, [named["attn2.norm_q"]], cos, sin, shape.width, eps, rotate=False))
    attended = attend_context(query, text_key, text_value, padding).flatten(-2)
    attended = apply("attn2.out", prepared(attended))

    hidden, inputs = added(hidden, attended, shift=FFN_SHIFT)
    inner = prepared(apply("ffn.up", inputs), gelu=True)
    return steps.gated_residual(hidden, apply("ffn.down", inner), temb, scale_shift_table, FFN_GATE)


def context_keys_values(kind: BlockKind, text: Tensor, weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the keys and values (1, text tokens, heads, head_dim) of the text (1, text tokens, width).

    `weights` are the tensors of the layer that computes both, and the key's norm weight.
    """
    *layer, norm = weights
    key, value = linear(text, layer, kind.scheme, kind.dtype).split(kind.shape.width, dim=-1)
    # Once per text: not worth a kernel. Without RoPE, cos and sin are not read.
    key = plain_steps.qk_rms_norm_rope(key, [norm], norm, norm, kind.shape.width, kind.shape.eps, rotate=False)
    heads = (kind.shape.heads, -1)
    return key.unflatten(-1, heads).contiguous(), value.unflatten(-1, heads).contiguous()


class ExportableBlock(nn.Module):
    """`run_block` as a module without parameters, for `torch.export`: the weights are inputs.

    One compiled package therefore serves every layer and every denoiser of a kind, and owns none of their tensors.
    """

    def __init__(self, kind: BlockKind) -> None:
        super().__init__()
        self._kind = kind

    def forward(
        self,
        hidden: Tensor,
        text_key: Tensor,
        text_value: Tensor,
        padding: Tensor,
        temb: Tensor,
        cos: Tensor,
        sin: Tensor,
        weights: list[Tensor],
    ) -> Tensor:
        return run_block(self._kind, hidden, text_key, text_value, padding, temb, cos, sin, weights)
