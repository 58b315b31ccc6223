# ruff: noqa: N803  # constants of kernels are written like this
"""Attention to the text on a GPU, in Triton: a tile of tokens looks at all keys, of which there are few.

Imported only where there is Triton and a GPU. `text.py` says what it computes.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

__all__ = ["cross_attention_fwd"]

ROWS, KEYS, WARPS, STAGES = 64, 64, 4, 2
"""Of a tile. A prompt's keys are one or two tiles."""


@triton.jit  # type: ignore[untyped-decorator]
def _few_keys_kernel(  # type: ignore[no-untyped-def]
    query, key, value, padding, out, tokens, text,
    HEADS: tl.constexpr, WIDTH: tl.constexpr, SCALE: tl.constexpr, ROWS: tl.constexpr, KEYS: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    rows = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    columns = head * WIDTH + tl.arange(0, WIDTH)[None, :]
    at = rows.to(tl.int64)[:, None] * (HEADS * WIDTH) + columns
    known = rows[:, None] < tokens
    some = tl.load(query + at, mask=known, other=0.0)
    of_last = tl.log2(tl.load(padding))
    top = tl.full((ROWS,), -float("inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    made = tl.zeros((ROWS, WIDTH), tl.float32)
    for start in range(0, text, KEYS):
        place = start + tl.arange(0, KEYS)
        there = place[:, None] * (HEADS * WIDTH) + columns
        keys = tl.load(key + there, mask=place[:, None] < text, other=0.0)
        values = tl.load(value + there, mask=place[:, None] < text, other=0.0)
        scores = tl.dot(some, tl.trans(keys)) * SCALE
        scores += tl.where(place == text - 1, of_last, 0.0)[None, :]
        scores = tl.where(place[None, :] < text, scores, -float("inf"))
        higher = tl.maximum(top, tl.max(scores, 1))
        fading = tl.exp2(top - higher)
        weights = tl.exp2(scores - higher[:, None])
        total = total * fading + tl.sum(weights, 1)
        made = tl.dot(weights.to(values.dtype), values, made * fading[:, None])
        top = higher
    tl.store(out + at, (made / total[:, None]).to(out.dtype.element_ty), mask=known)


@triton_op("wan_mcp::cross_attention_fwd", mutates_args={})  # type: ignore[untyped-decorator]
def cross_attention_fwd(query: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> Tensor:
    """See `attend_context`. Contiguous tensors of 16 bits, heads of a power of two from 16 to 256."""
    _, tokens, heads, width = query.shape
    out = torch.empty_like(query)
    wrap_triton(_few_keys_kernel)[(heads, triton.cdiv(tokens, ROWS))](
        query, key, value, padding, out, tokens, key.shape[1],
        HEADS=heads, WIDTH=width, SCALE=math.log2(math.e) / math.sqrt(width), ROWS=ROWS, KEYS=KEYS, num_warps=WARPS,
        num_stages=STAGES,
    )  # fmt: skip
    return out
