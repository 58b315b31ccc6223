"""Cross-attention of a block's tokens to the text: hundreds of keys instead of tens of thousands, and no FP8.

Most keys are padding: Wan was trained with 512 text tokens, of which a prompt fills some dozens, and all others are
the same. Equal tokens have equal keys and values, so one of them, weighted by their number, has the effect of all.
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
"""Maximum relative error of an accepted kernel against float64; rounding to 16 bits causes less than half of it."""


def attend_context(query: Tensor, key: Tensor, value: Tensor, padding: Tensor) -> Tensor:
    """Compute softmax attention scaled by 1 / sqrt(head_dim), in which the last key counts more than once.

    Args:
        query: (1, tokens, heads, head_dim), contiguous.
        key: (1, text tokens, heads, head_dim), contiguous.
        value: of the key's shape.
        padding: (1), float32: the number of tokens that the last key and value represent; 1 unless
            `supports_padding_count`.

    Returns:
        The query's shape and dtype.
    """
    if query.dtype in HALVES and (kernel := context_kernel(query.device, query.shape[-1])) is not None:
        out: Tensor = kernel(query, key, value, padding)
        return out
    counts = None
    if query.dtype not in HALVES:
        last = torch.arange(key.shape[1], device=key.device) == key.shape[1] - 1
        counts = (last * padding.log())[None, None, None]
    query, key, value = (x.transpose(1, 2) for x in (query, key, value))
    return F.scaled_dot_product_attention(query, key, value, attn_mask=counts).transpose(1, 2)


def supports_padding_count(device: torch.device, width: int, dtype: torch.dtype) -> bool:
    """Check whether `attend_context` can weight a key; as a mask in 16 bits the weight would be rounded."""
    return dtype == torch.float32 or (dtype in HALVES and context_kernel(device, width) is not None)


@lru_cache(maxsize=32)
def context_kernel(device: torch.device, width: int) -> Any:
    """Return the kernel for heads of this width, if there is one and it passes its accuracy check; checked once.

    Call it before an export: a traced kernel cannot be checked.
    """
    if device.type != "cuda" or width not in WIDTHS:
        return None
    try:
        from wan_mcp.engine.attention.cross_attention_triton import cross_attention_fwd

        error = _error_of(cross_attention_fwd, device, width)
        if error <= LIMIT:  # false if it is NaN
            return cross_attention_fwd
        why = f"its relative error is {error:.2g}"
    except torch.OutOfMemoryError:  # temporary; an exception is not cached
        raise
    except Exception as failure:  # without a C compiler, or on a GPU that Triton does not know
        why = first_line(failure)
    log.warning("cross-attention uses torch on %s: %s", device, why)
    return None


def _error_of(kernel: Any, device: torch.device, width: int) -> float:
    """Return the kernel's relative error against float64, with 70 keys of which the last counts 400 times."""
    random = torch.Generator(device).manual_seed(0)

    def sample(tokens: int) -> Tensor:
        return torch.randn(1, tokens, 2, width, generator=random, device=device)

    query, key, value = (x.bfloat16() for x in (sample(200) * 2, sample(70), sample(70)))
    out = kernel(query, key, value, torch.full((1,), 400.0, device=device)).double()
    scores = torch.einsum("bqhc,bkhc->bhqk", query.double(), key.double()) / math.sqrt(width)
    scores[..., -1] += math.log(400)
    expected = torch.einsum("bhqk,bkhc->bqhc", scores.softmax(-1), value.double())
    return float((out - expected).norm() / expected.norm())
