"""Attention that leaves out blocks: by kernels of `nvidia-cudnn-frontend` on Hopper, by plain torch anywhere.

With all blocks kept, the FP8 kernel is a dense one with fine scales (per token, per 16 keys, per channel of the values;
SageAttention, Zhang et al. 2024), a second choice where cuDNN's own FP8 kernel does not work.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.attention.block_layout import block_scores, from_blocks, to_blocks
from wan_mcp.engine.attention.block_router import BLOCK, Grid, kept_blocks, padded_order
from wan_mcp.engine.attention.cudnn_fp8 import is_long

__all__ = ["BlockKernel", "CudnnBlocks", "DenseSage", "TorchBlocks", "attend_sparsely"]


class BlockKernel(Protocol):
    """A kernel that computes softmax over the kept blocks of keys only."""

    @property
    def block(self) -> int:
        """Tokens of a block."""

    @property
    def name(self) -> str:
        """What receipts and logs call it."""

    def supports(self, query: Tensor) -> bool:
        """Whether it is worth using for queries (batch, tokens, heads, head width)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        """Attention of (batch, heads, blocks * block, head width), contiguous, over `kept` (see `kept_blocks`).

        `tokens` is how many are not filling; a kernel may or may not leave the others out.
        """


class CudnnBlocks:
    """The kernels of cudnn-frontend, written in CuTe: compiled when first called, which takes seconds."""

    block = BLOCK
    widths = (64, 128)

    def __init__(self, device: torch.device) -> None:
        """Raises ImportError where cudnn-frontend or cutlass-dsl is missing."""
        import cutlass  # noqa: F401
        from cudnn import block_sparse_attention

        self.name = "block-sparse sage-fp8"
        self._kernels: Any = block_sparse_attention

    def supports(self, query: Tensor) -> bool:
        """Long sequences."""
        return query.shape[-1] in self.widths and is_long(query)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        kernel = self._kernels.block_sparse_attention_forward
        if query.shape[-1] == 128:
            kernel = self._kernels.block_sparse_attention_fp8_forward
        given = kernel(query, key, value, kept, kept.shape[-1], sparse_block_size=self.block)
        return torch.Tensor.contiguous(given["o_tensor"])


class TorchBlocks:
    """The same in plain torch, exact, for devices without such kernels; it saves no time."""

    name = "block-sparse torch"

    def __init__(self, block: int = BLOCK) -> None:
        self.block = block

    def supports(self, query: Tensor) -> bool:
        """Everything."""
        return True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        batch, heads, length, _ = query.shape
        real = torch.arange(length, device=query.device) < tokens
        given = []
        for number in range(length // self.block):
            seen = torch.zeros(batch, heads, length // self.block, dtype=torch.bool, device=query.device)
            seen.scatter_(2, kept[:, :, number].long(), value=True)
            mask = seen.repeat_interleave(self.block, -1) & real
            rows = query[:, :, number * self.block : (number + 1) * self.block]
            given.append(F.scaled_dot_product_attention(rows, key, value, attn_mask=mask[:, :, None]))
        return torch.cat(given, 2)


def attend_sparsely(
    kernel: BlockKernel, query: Tensor, key: Tensor, value: Tensor, density: float, grid: Grid | None = None
) -> Tensor:
    """Self-attention, see `attend`, where each block of queries looks at this share of the blocks of keys.

    Args:
        kernel: what computes.
        query: (batch, tokens, heads, head width).
        key: likewise.
        value: likewise.
        density: above 0, at most 1.
        grid: frames, rows and columns of the tokens, where they are known; blocks are boxes of them then.
    """
    order, places = padded_order(query.shape[1], grid, kernel.block, query.device)
    laid = to_blocks(query, key, value, order, kernel.block)
    count = len(order) // kernel.block
    keep = max(1, min(count, round(count * density)))
    kept = kept_blocks(block_scores(laid), keep) if keep < count else _all_blocks(laid.query, count)
    given = kernel(laid.query, laid.key, laid.value, kept, query.shape[1])
    return from_blocks(given, laid, places, query.dtype)


def _all_blocks(query: Tensor, count: int) -> Tensor:
    every = torch.arange(count, dtype=torch.int32, device=query.device)
    return every.expand(*query.shape[:2], count, count).contiguous()


class DenseSage:
    """Dense self-attention by the FP8 kernel for blocks, with all of them."""

    name = "sage-fp8"
    widths = (128,)

    def __init__(self, device: torch.device) -> None:
        """Raises ImportError where a package is missing."""
        self._blocks = CudnnBlocks(device)

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Long self-attention."""
        return query.shape == key.shape and query.shape[-1] in self.widths and is_long(query)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""
        return attend_sparsely(self._blocks, query, key, value, density=1.0)
