"""The inputs of a block package: their names, shapes, dtypes and strides, and examples of them.

A package does not check its inputs: a wrong shape causes wrong results or a crash.
"""

from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.aot.metadata import Input
from wan_mcp.engine.ops.fp8_linear import FP8, MIN_GEMM_ROWS, quantize_rowwise
from wan_mcp.engine.transformer.block import BlockKind, weight_names

Layout = dict[str, tuple[tuple[int | str, ...], torch.dtype]]
"""Shapes, with names for dynamic dimensions, and dtypes."""

__all__ = ["ACTIVATIONS", "dynamic_sizes", "example_inputs", "example_weights", "expected_inputs"]

ACTIVATIONS = ("hidden", "text_key", "text_value", "padding", "temb", "cos", "sin")
"""The inputs before the weights, in order."""
ROWS_AT_ONCE = 1024


def dynamic_sizes(kind: BlockKind, device: Any) -> dict[str, tuple[int, int]]:
    """Return the dynamic dimensions and their bounds."""
    least = MIN_GEMM_ROWS if kind.scheme == FP8 and device.type == "cuda" else 2  # compilers specialize on one
    return {"tokens": (least, 1 << 20), "text": (2, 8192)}


def expected_inputs(kind: BlockKind) -> tuple[Input, ...]:
    """Return all inputs of a package of this kind, in order."""
    return tuple(
        Input.contiguous(name, shape, str(dtype).removeprefix("torch."))
        for name, (shape, dtype) in [*_activations(kind).items(), *_weights(kind).items()]
    )


def _activations(kind: BlockKind) -> Layout:
    shape, dtype = kind.shape, kind.dtype
    text = (1, "text", shape.heads, shape.head_dim)
    temb = (1, "tokens", 6, shape.width) if shape.temb_per_token else (1, 6, shape.width)
    angles = ("tokens", shape.head_dim // 2)
    return {
        "hidden": ((1, "tokens", shape.width), dtype),
        "text_key": (text, dtype),
        "text_value": (text, dtype),
        "padding": ((1,), torch.float32),
        "temb": (temb, dtype),  # as `WanTransformer3DModel` passes them to its blocks
        "cos": (angles, torch.float32),
        "sin": (angles, torch.float32),
    }


def _layers(kind: BlockKind) -> dict[str, tuple[int, int]]:
    width, inner = kind.shape.width, kind.shape.ffn_dim
    square = (width, width)
    return {
        "attn1.qkv": (3 * width, width),
        "attn1.out": square,
        "attn2.q": square,
        "attn2.out": square,
        "ffn.up": (inner, width),
        "ffn.down": (width, inner),
    }


def _weights(kind: BlockKind) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
    width = kind.shape.width
    found: dict[str, tuple[tuple[int, ...], torch.dtype]] = {
        "scale_shift_table": ((1, 6, width), torch.float32),
        "norm2.weight": ((width,), torch.float32),
        "norm2.bias": ((width,), torch.float32),
    }
    found |= dict.fromkeys(("attn1.norm_q", "attn1.norm_k", "attn2.norm_q"), ((width,), kind.dtype))
    for layer, (out_features, in_features) in _layers(kind).items():
        weight = torch.float8_e4m3fn if kind.scheme == FP8 else kind.dtype
        found |= {
            f"{layer}.weight": ((out_features, in_features), weight),
            f"{layer}.bias": ((out_features,), kind.dtype),
        }
        if kind.scheme == FP8:
            found[f"{layer}.scale"] = ((1, out_features), torch.float32)
    return {name: found[name] for name in weight_names(kind)}


def example_inputs(kind: BlockKind, tokens: int, text: int, device: Any) -> list[Tensor]:
    """Return random activations, the inputs before the weights."""
    sizes = {"tokens": tokens, "text": text}
    tensors = []
    for name, (shape, dtype) in _activations(kind).items():
        numbers = torch.randn([sizes[n] if isinstance(n, str) else n for n in shape], device=device)
        special = {"cos": numbers.cos(), "sin": numbers.sin(), "padding": numbers.abs() * 100 + 1}
        tensors.append(special.get(name, numbers * 0.5).to(dtype))
    return tensors


def example_weights(kind: BlockKind, device: Any) -> list[Tensor]:
    """Return random weights that keep the residual stream in the range of its inputs."""
    tensors: dict[str, Tensor] = {}
    for name, (shape, dtype) in _weights(kind).items():
        numbers = torch.randn(shape, device=device, dtype=torch.float32) * 0.1 if len(shape) != 2 else None
        if numbers is not None:
            tensors[name] = (numbers + 1 if ".norm" in name or name == "norm2.weight" else numbers).to(dtype)
    for layer, (out_features, in_features) in _layers(kind).items():
        pieces: list[tuple[Tensor, ...]] = []
        for first in range(0, out_features, ROWS_AT_ONCE):  # conversion needs several times the layer's memory
            size = (min(ROWS_AT_ONCE, out_features - first), in_features)
            weight = torch.randn(size, device=device, dtype=kind.dtype).mul_(in_features**-0.5)
            pieces.append(quantize_rowwise(weight) if kind.scheme == FP8 else (weight,))
        tensors[f"{layer}.weight"] = torch.cat([piece[0] for piece in pieces])
        if kind.scheme == FP8:
            tensors[f"{layer}.scale"] = torch.cat([piece[1] for piece in pieces]).view(1, -1)
    return [tensors[name] for name in weight_names(kind)]
