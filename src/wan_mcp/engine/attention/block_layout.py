"""Gather a sequence into blocks for block-sparse kernels, and scatter the output back.

On CUDA each direction is one pass. It permutes tokens, rotates queries and keys, subtracts the mean of the values
(`fp8_quantize` explains why; without it FP8 had an error of 25 % on data with outliers), and also computes the means of
the parts of each block, which the router needs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import LaunchConfig, hadamard

__all__ = ["PARTS", "BlockedQKV", "block_scores", "from_blocks", "to_blocks"]

PARTS = 4
"""Parts of a block whose means represent it: n_q and n_k of the router's formula (see `block_router`)."""
TILES, SCATTER = 4, LaunchConfig(64, 4)
BLOCK_B = 16  # Blocks that one program scores at a time.
HEADS_AT_ONCE = 8  # In plain torch: the scores of all heads at 75,600 tokens would need 0.9 GB.


@dataclass(frozen=True)
class BlockedQKV:
    """Self-attention's inputs in whole blocks."""

    query: Tensor
    """(batch, heads, blocks * block, head_dim), contiguous."""
    key: Tensor
    value: Tensor
    query_means: Tensor
    """(batch, heads, blocks * parts, head_dim), float32."""
    key_means: Tensor
    value_mean: Tensor | None
    """(batch * heads, head_dim) float32: the mean to add back to the output."""


def to_blocks(query: Tensor, key: Tensor, value: Tensor, order: Tensor, block: int) -> BlockedQKV:
    """Gather inputs (batch, tokens, heads, head_dim) in `order` (position → token, a multiple of `block` long).

    On CUDA the result is bf16.
    """
    part = block // PARTS
    if not query.is_cuda:
        blocked = [x.transpose(1, 2).index_select(2, order) for x in (query, key, value)]
        means = [x.unflatten(2, (-1, part)).mean(3, dtype=torch.float32) for x in blocked[:2]]
        return BlockedQKV(blocked[0], blocked[1], blocked[2], means[0], means[1], None)

    from wan_mcp.engine.attention.block_layout_triton import gather_blocks_kernel

    query, key, value = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key, value))
    batch, _, heads, width = query.shape
    places, pairs, device = len(order), batch * heads, query.device
    value_mean = value.mean(1, dtype=torch.float32).view(pairs, width)
    shape = (batch, heads, places, width)
    blocked = [torch.empty(shape, dtype=torch.bfloat16, device=device) for _ in range(3)]
    means = [torch.empty(batch, heads, places // part, width, device=device) for _ in range(2)]
    strides = [x.stride(place) for x in (query, key, value) for place in (0, 1, 2)]
    gather_blocks_kernel[(-(-places // (part * TILES)), pairs)](
        query, key, value, order, hadamard(width, device), value_mean, *blocked, *means,
        places, heads, width**-0.5, *strides, HEAD_DIM=width, BLOCK_M=part, TILES=TILES, num_warps=4, num_stages=2,
    )  # fmt: skip
    return BlockedQKV(blocked[0], blocked[1], blocked[2], means[0], means[1], value_mean)


def from_blocks(output: Tensor, blocked: BlockedQKV, places: Tensor, dtype: torch.dtype) -> Tensor:
    """Return attention's output, shaped like `blocked.query`, as (batch, tokens, heads, head_dim).

    `places` maps token → position.
    """
    if blocked.value_mean is None:
        return output.transpose(1, 2).index_select(1, places).to(dtype)

    from wan_mcp.engine.attention.block_layout_triton import scatter_blocks_kernel

    batch, heads, length, width = output.shape
    result = torch.empty(batch, len(places), heads, width, dtype=dtype, device=output.device)
    scatter_blocks_kernel[(SCATTER.num_programs(len(places)), batch * heads)](
        output.contiguous(), places, blocked.value_mean, result,
        length, len(places), heads, *result.stride()[:3], HEAD_DIM=width, **SCATTER.options(),
    )  # fmt: skip
    return result


def block_scores(blocked: BlockedQKV) -> Tensor:
    """Return the router's score of each key block for each query block: (batch, heads, blocks, blocks) float32.

    The score of a block with itself is infinite.
    """
    batch, heads, lines, width = blocked.query_means.shape
    blocks = lines // PARTS
    scores = torch.empty(batch, heads, blocks, blocks, device=blocked.query.device)
    if blocked.query.is_cuda:
        from wan_mcp.engine.attention.block_layout_triton import block_score_kernel

        block_score_kernel[(-(-blocks // BLOCK_B), batch * heads)](
            blocked.query_means, blocked.key_means, scores, blocks, width**-0.5,
            HEAD_DIM=width, PARTS=PARTS, BLOCK_B=BLOCK_B, num_warps=4,
        )  # fmt: skip
        return scores
    for first in range(0, heads, HEADS_AT_ONCE):
        chunk = slice(first, first + HEADS_AT_ONCE)
        parts = blocked.query_means[:, chunk] @ blocked.key_means[:, chunk].transpose(-1, -2) * width**-0.5
        parts = parts.unflatten(3, (blocks, PARTS)).logsumexp(-1)
        scores[:, chunk] = parts.unflatten(2, (blocks, PARTS)).logsumexp(3)
    scores.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return scores
