"""Block-sparse attention: kernels of `nvidia-cudnn-frontend` on Hopper, plain torch elsewhere.

With all blocks kept, the FP8 kernel is dense attention with fine scales (per token, per 16 keys, per channel of the
values; SageAttention, Zhang et al. 2024): the second choice if cuDNN's own FP8 kernel does not work.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.attention.block_layout import block_scores, from_blocks, to_blocks
from wan_mcp.engine.attention.block_router import BLOCK, Grid, kept_blocks, padded_order
from wan_mcp.engine.attention.cudnn_fp8 import is_long

__all__ = ["BlockKernel", "CudnnBlocks", "DenseSage", "TorchBlocks", "attend_sparsely", "leaves_out"]


class BlockKernel(Protocol):
    """A kernel that computes softmax over the kept blocks of keys only."""

    @property
    def block(self) -> int:
        """Return the number of tokens in a block."""

    @property
    def name(self) -> str:
        """Return the kernel's name for receipts and logs."""

    def supports(self, query: Tensor) -> bool:
        """Check whether the kernel is worth using for queries (batch, tokens, heads, head_dim)."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        """Attend from (batch, heads, blocks * block, head_dim), contiguous, to the blocks of `kept_blocks` in `kept`.

        `tokens` is the number of tokens without padding; masking the padding is optional.
        """


class CudnnBlocks:
    """The kernels of cudnn-frontend, written in CuTe: compiled at the first call, which takes seconds."""

    block = BLOCK
    widths = (64, 128)

    def __init__(self, device: torch.device) -> None:
        """Import the kernels.

        Raises:
            ImportError: cudnn-frontend or cutlass-dsl is missing.
        """
        import cutlass  # noqa: F401
        from cudnn import block_sparse_attention

        self.name = "block-sparse sage-fp8"
        self._kernels: Any = block_sparse_attention

    def supports(self, query: Tensor) -> bool:
        """Check whether the sequence is long."""
        return query.shape[-1] in self.widths and is_long(query)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        kernel = self._kernels.block_sparse_attention_forward
        if query.shape[-1] == 128:
            kernel = self._kernels.block_sparse_attention_fp8_forward
        given = kernel(query, key, value, kept, kept.shape[-1], sparse_block_size=self.block)
        return torch.Tensor.contiguous(given["o_tensor"])


class TorchBlocks:
    """The same in plain torch, exact, for devices without such kernels; it is no faster than dense attention."""

    name = "block-sparse torch"

    def __init__(self, block: int = BLOCK) -> None:
        self.block = block

    def supports(self, query: Tensor) -> bool:
        """Return true: every input is supported."""
        return True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, kept: Tensor, tokens: int) -> Tensor:
        batch, heads, length, _ = query.shape
        real = torch.arange(length, device=query.device) < tokens
        out = []
        for number in range(length // self.block):
            seen = torch.zeros(batch, heads, length // self.block, dtype=torch.bool, device=query.device)
            seen.scatter_(2, kept[:, :, number].long(), value=True)
            mask = seen.repeat_interleave(self.block, -1) & real
            rows = query[:, :, number * self.block : (number + 1) * self.block]
            out.append(F.scaled_dot_product_attention(rows, key, value, attn_mask=mask[:, :, None]))
        return torch.cat(out, 2)


def attend_sparsely(
    kernel: BlockKernel, query: Tensor, key: Tensor, value: Tensor, density: float, grid: Grid | None = None
) -> Tensor:
    """Compute self-attention (see `attend`) in which each query block attends to a share of the key blocks.

    Args:
        kernel: the block-sparse kernel.
        query: (batch, tokens, heads, head_dim).
        key: likewise.
        value: likewise.
        density: the share of key blocks, above 0, at most 1.
        grid: frames, rows and columns of the tokens, if known; blocks are then boxes of the grid.
    """
    order, places = padded_order(query.shape[1], grid, kernel.block, query.device)
    blocked = to_blocks(query, key, value, order, kernel.block)
    count = len(order) // kernel.block
    keep = _blocks_kept(count, density)
    kept = kept_blocks(block_scores(blocked), keep) if keep < count else _all_blocks(blocked.query, count)
    out = kernel(blocked.query, blocked.key, blocked.value, kept, query.shape[1])
    return from_blocks(out, blocked, places, query.dtype)


def leaves_out(tokens: int, block: int, density: float) -> bool:
    """Check whether attention over that share of the key blocks skips any of them."""
    count = -(-tokens // block)
    return _blocks_kept(count, density) < count


def _blocks_kept(count: int, density: float) -> int:
    return max(1, min(count, round(count * density)))


def _all_blocks(query: Tensor, count: int) -> Tensor:
    every = torch.arange(count, dtype=torch.int32, device=query.device)
    return every.expand(*query.shape[:2], count, count).contiguous()


class DenseSage:
    """Dense self-attention by the block-sparse FP8 kernel, with all blocks kept."""

    name = "sage-fp8"
    widths = (128,)

    def __init__(self, device: torch.device) -> None:
        """Import the kernel.

        Raises:
            ImportError: a package is missing.
        """
        self._blocks = CudnnBlocks(device)

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Check whether this is long self-attention."""
        return query.shape == key.shape and query.shape[-1] in self.widths and is_long(query)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""
        return attend_sparsely(self._blocks, query, key, value, density=1.0)
