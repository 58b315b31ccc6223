"""Attention of the denoisers' blocks (being built)."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["attend_self"]


@torch.library.custom_op("wan_mcp::attend_self", mutates_args=())  # type: ignore[untyped-decorator]
def attend_self(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention of (1, tokens, heads, head width) over itself; the same shape, contiguous."""
    attended = F.scaled_dot_product_attention(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2))
    return attended.transpose(1, 2).contiguous()


@attend_self.register_fake  # type: ignore[untyped-decorator]
def _(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return torch.empty(query.shape, dtype=query.dtype, device=query.device)
