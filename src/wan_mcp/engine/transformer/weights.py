"""Conversion of a `WanTransformerBlock`'s tensors to `run_block`'s, and their names in a flat file."""

from collections.abc import Mapping

import torch
from torch import Tensor

from wan_mcp.engine.ops.quantize_weights import quantize_linear
from wan_mcp.engine.transformer.block import BlockKind, linear_parts, weight_names

__all__ = ["LINEARS_PER_BLOCK", "TEXT_LAYER", "BlockWeights", "block_weights", "text_names"]

TEXT_LAYER = "attn2.kv"
JOINED = {
    "attn1.qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "attn1.out": ("attn1.to_out.0",),
    "attn2.q": ("attn2.to_q",),
    TEXT_LAYER: ("attn2.to_k", "attn2.to_v"),
    "attn2.out": ("attn2.to_out.0",),
    "ffn.up": ("ffn.net.0.proj",),
    "ffn.down": ("ffn.net.2",),
}
"""Our layers, and the diffusers layers that each consists of: layers with the same input are one product."""
LINEARS_PER_BLOCK = sum(len(parts) for parts in JOINED.values())
NORMS = {
    "attn1.norm_q": "attn1.norm_q.weight",
    "attn1.norm_k": "attn1.norm_k.weight",
    "attn2.norm_q": "attn2.norm_q.weight",
    "attn2.norm_k": "attn2.norm_k.weight",
    "norm2.weight": "norm2.weight",
    "norm2.bias": "norm2.bias",
    "scale_shift_table": "scale_shift_table",
}
PRECISE = ("norm2.weight", "norm2.bias", "scale_shift_table")  # float32, as diffusers keeps them


class BlockWeights:
    """The tensors of one block, by our names."""

    def __init__(self, kind: BlockKind, tensors: Mapping[str, Tensor]) -> None:
        """Check and keep the tensors.

        Raises:
            KeyError: a name is missing.
        """
        self.kind = kind
        self.tensors = dict(tensors)
        self.of_block = [self.tensors[name] for name in weight_names(kind)]
        self.of_text = [self.tensors[name] for name in text_names(kind)]

    @property
    def quantized_layers(self) -> int:
        """Return how many layers of the original block are in FP8."""
        in_fp8 = [name for name in JOINED if self.tensors[f"{name}.weight"].dtype == torch.float8_e4m3fn]
        return sum(len(JOINED[name]) for name in in_fp8)


def text_names(kind: BlockKind) -> list[str]:
    """Return the names of the tensors for `context_keys_values`, in its order."""
    return [f"{TEXT_LAYER}.{part}" for part in linear_parts(kind.scheme)] + ["attn2.norm_k"]


@torch.no_grad()
def block_weights(kind: BlockKind, state: Mapping[str, Tensor], device: torch.device) -> BlockWeights:
    """Convert the state of a `WanTransformerBlock` to the weights of one block, on `device`.

    Raises:
        KeyError: a tensor is missing, so this is another kind of block.
    """
    tensors = {}
    for ours, theirs in NORMS.items():
        if theirs.startswith("norm2") and not kind.shape.cross_norm:
            continue
        dtype = torch.float32 if ours in PRECISE else kind.dtype
        tensors[ours] = state[theirs].to(device, dtype).contiguous()
    parts = linear_parts(kind.scheme)
    for layer, sources in JOINED.items():
        weight = torch.cat([state[f"{source}.weight"].to(device) for source in sources])
        bias = torch.cat([state[f"{source}.bias"].to(device) for source in sources])
        out = quantize_linear(weight, bias, kind.scheme, kind.dtype)
        tensors |= {f"{layer}.{part}": tensor for part, tensor in zip(parts, out, strict=True)}
    return BlockWeights(kind, tensors)
