"""Attention of a block's tokens to the text: hundreds of keys instead of tens of thousands, and no FP8.

cuDNN's kernel takes half of the time of the one that torch picks on Hopper (0.58 in place of 1.19 ms for 32,760 tokens
of A14B). A compiled package has the same kernel burnt in, so that it and the eager block give the same bits.
"""

import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import sdpa_kernel

from wan_mcp.engine.attention.chain import kernel_of
from wan_mcp.engine.attention.plain import TORCH_KERNELS
from wan_mcp.logs import first_line

__all__ = ["attend_text", "text_kernels"]

log = logging.getLogger(__name__)


_WITHOUT_CUDNN: set[torch.device] = set()
"""Where cuDNN once had nothing for a shape: it is not asked again, as each answer of that sort is an error."""


def attend_text(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention of (batch, heads, tokens, head width) to keys and values of fewer tokens."""
    try:
        with text_kernels(query.device, query.shape[-1]):
            return F.scaled_dot_product_attention(query, key, value)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:  # cuDNN says only when it runs that it has nothing for a shape
        if query.device.type != "cuda" or query.device in _WITHOUT_CUDNN:
            raise
        _WITHOUT_CUDNN.add(query.device)
        log.warning("attention to the text goes on without cuDNN from %s on: %s", list(query.shape), first_line(error))
    return attend_text(query, key, value)


def text_kernels(device: torch.device, width: int) -> AbstractContextManager[Any]:
    """The order in which torch looks for a kernel; what is exported within keeps the one that it finds.

    cuDNN comes first where it proved itself with heads of this width: torch does not ask whether it works.
    """
    if device.type != "cuda":
        return nullcontext()
    return _in_order(with_cudnn=device not in _WITHOUT_CUDNN and kernel_of(device, "cudnn", width) is not None)


def _in_order(*, with_cudnn: bool) -> AbstractContextManager[Any]:
    backends = [backend for name, backend in TORCH_KERNELS.items() if with_cudnn or name != "cudnn"]
    order: AbstractContextManager[Any] = sdpa_kernel(backends, set_priority=True)
    return order
