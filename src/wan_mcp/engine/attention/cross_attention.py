"""Attention of a block's tokens to the text: hundreds of keys instead of tens of thousands, and no FP8.

Most of them are padding: Wan was trained to look at 512 tokens, of which a prompt fills some dozens, and all others are
the same. What is the same has the same key and value, so one of them that counts as many times gives what all gave.
"""

import logging
import math
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.text import first_line

__all__ = ["attend_context", "context_kernel", "supports_padding_count"]

log = logging.getLogger(__name__)

WIDTHS = (16, 32, 64, 128, 256)
HALVES = (torch.bfloat16, torch.float16)
LIMIT = 0.01
"""The largest relative error against float64 of a kernel that works: rounding to 16 bits gives less than half of it."""


def attend_context(query: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> Tensor:
    """Softmax attention scaled by 1 / sqrt(head width), in which the last key counts more than once.

    Args:
        query: (1, tokens, heads, head width), contiguous.
        key: (1, text tokens, heads, head width), contiguous.
        value: of the key's shape.
        padding: (1), float32: how many tokens the last key and value stand for; 1 where nothing else can count, see
            `supports_padding_count`.

    Returns:
        The query's shape and dtype.
    """
    if query.dtype in HALVES and (kernel := context_kernel(query.device, query.shape[-1])) is not None:
        made: Tensor = kernel(query, key, value, padding)
        return made
    counts = None
    if query.dtype not in HALVES:
        last = torch.arange(key.shape[1], device=key.device) == key.shape[1] - 1
        counts = (last * padding.log())[None, None, None]
    query, key, value = (each.transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=counts).transpose(1, 2)


def supports_padding_count(device: torch.device, width: int, dtype: torch.dtype) -> bool:
    """Whether `attend_context` can have a key count many times: as a mask in 16 bits that would be rounded."""
    return dtype == torch.float32 or (dtype in HALVES and context_kernel(device, width) is not None)


@lru_cache(maxsize=32)
def context_kernel(device: torch.device, width: int) -> Any:
    """The kernel for heads of this width, if there is one and it proves itself; tried once.

    Call it before an export: what is only traced cannot be tried.
    """
    if device.type != "cuda" or width not in WIDTHS:
        return None
    try:
        from wan_mcp.engine.attention.cross_attention_triton import cross_attention_fwd

        error = _error_of(cross_attention_fwd, device, width)
        if error <= LIMIT:  # not so where it is no number
            return cross_attention_fwd
        why = f"it is {error:.2g} off"
    except torch.OutOfMemoryError:  # of the moment; a raise is not remembered
        raise
    except Exception as failure:  # without a C compiler, or on a GPU that Triton does not know
        why = first_line(failure)
    log.warning("attention to the text goes through torch on %s: %s", device, why)
    return None


def _error_of(kernel: Any, device: torch.device, width: int) -> float:
    """The relative error of a kernel against float64, where the last of 70 keys counts 400 times."""
    random = torch.Generator(device).manual_seed(0)

    def some(tokens: int) -> Tensor:
        return torch.randn(1, tokens, 2, width, generator=random, device=device)

    query, key, value = (each.bfloat16() for each in (some(200) * 2, some(70), some(70)))
    made = kernel(query, key, value, torch.full((1,), 400.0, device=device)).double()
    scores = torch.einsum("bqhc,bkhc->bhqk", query.double(), key.double()) / math.sqrt(width)
    scores[..., -1] += math.log(400)
    wanted = torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), value.double())
    return float((made - wanted).norm() / wanted.norm())
