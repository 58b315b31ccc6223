"""Attention of a block's tokens to the text: hundreds of keys instead of tens of thousands, and no FP8.

cuDNN's kernel takes half of the time of the one that torch picks on Hopper (0.58 in place of 1.19 ms for 32,760 tokens
of A14B). A compiled package has the same kernel burnt in, so that it and the eager block give the same bits.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["attend_text", "text_kernels"]

log = logging.getLogger(__name__)

LIMIT = 0.01
"""How far cuDNN may be off: bf16 is by 0.003."""
BEST_FIRST = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
)


def attend_text(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of (batch, heads, tokens, head width) to keys and values of fewer tokens."""
    try:
        with text_kernels(query.device, query.shape[-1], query.dtype):
            return F.scaled_dot_product_attention(query, key, value)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # cuDNN says only when it runs that it has nothing for a shape
        if query.device.type != "cuda":
            raise
        log.warning("attention to the text does not take %s: %s", list(query.shape), str(error).split("\n")[0])
        with sdpa_kernel(list(BEST_FIRST[1:]), set_priority=True):
            return F.scaled_dot_product_attention(query, key, value)


def text_kernels(device: Any, width: int, dtype: torch.dtype) -> AbstractContextManager[Any]:
    """The order in which torch looks for a kernel; what is exported within keeps the one that it finds."""
    if device.type != "cuda":
        return nullcontext()
    order: AbstractContextManager[Any] = sdpa_kernel(list(_order(width, dtype)), set_priority=True)
    return order


@cache
def _order(width: int, dtype: torch.dtype) -> tuple[SDPBackend, ...]:
    """cuDNN first if it works here: torch knows only when it runs whether it has a kernel for this GPU."""
    query, key = (torch.randn(1, 2, tokens, width, device="cuda", dtype=dtype) for tokens in (2000, 512))
    try:
        with sdpa_kernel([BEST_FIRST[0]]):
            given = F.scaled_dot_product_attention(query, key, key).double()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        log.info("attention to the text does without cuDNN: %s", str(error).split("\n")[0])
        return BEST_FIRST[1:]
    wanted = (query.double() @ key.double().mT * width**-0.5).softmax(-1) @ key.double()
    off = float((given - wanted).norm() / wanted.norm())
    if not off <= LIMIT:  # also where it is no number
        log.warning("attention to the text does without cuDNN, which is off by %.4f", off)
        return BEST_FIRST[1:]
    return BEST_FIRST
