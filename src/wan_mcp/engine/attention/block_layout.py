"""A sequence laid into blocks for kernels that leave some out, and what comes of it brought back.

On CUDA in one pass each way: tokens change places, queries and keys are rotated, values lose their mean (`fp8_quantize`
says what for; without it FP8 was off by a quarter on data with outliers), and the means of the parts of each block,
which the router needs, fall off.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import LaunchConfig, hadamard

__all__ = ["PARTS", "BlockedQKV", "block_scores", "from_blocks", "to_blocks"]

PARTS = 4
"""Parts of a block whose means stand for it: n_q and n_k of the router's formula (see `block_router`)."""
TILES, SCATTER = 4, LaunchConfig(64, 4)
BLOCK_B = 16  # blocks that one program scores at a time
HEADS_AT_ONCE = 8  # in plain torch: the scores of all heads at 75,600 tokens would take 0.9 GB


@dataclass(frozen=True)
class BlockedQKV:
    """Self-attention's inputs in whole blocks."""

    query: Tensor
    """(batch, heads, blocks * block, head width), contiguous."""
    key: Tensor
    value: Tensor
    query_means: Tensor
    """(batch, heads, blocks * parts, head width), float32."""
    key_means: Tensor
    value_mean: Tensor | None
    """(batch * heads, head width) float32: what the output lacks."""


def to_blocks(query: Tensor, key: Tensor, value: Tensor, order: Tensor, block: int) -> BlockedQKV:
    """Inputs (batch, tokens, heads, head width) in `order` (position → token), whose length is a multiple of `block`.

    On CUDA the result is bf16.
    """
    part = block // PARTS
    if not query.is_cuda:
        laid = [each.transpose(1, 2).index_select(2, order) for each in (query, key, value)]
        means = [each.unflatten(2, (-1, part)).mean(3, dtype=torch.float32) for each in laid[:2]]
        return BlockedQKV(laid[0], laid[1], laid[2], means[0], means[1], None)

    from wan_mcp.engine.attention.block_layout_triton import gather_blocks_kernel

    query, key, value = (each if each.stride(-1) == 1 else each.contiguous() for each in (query, key, value))
    batch, _, heads, width = query.shape
    places, pairs, device = len(order), batch * heads, query.device
    value_mean = value.mean(1, dtype=torch.float32).view(pairs, width)
    shape = (batch, heads, places, width)
    laid = [torch.empty(shape, dtype=torch.bfloat16, device=device) for _ in range(3)]
    means = [torch.empty(batch, heads, places // part, width, device=device) for _ in range(2)]
    strides = [each.stride(place) for each in (query, key, value) for place in (0, 1, 2)]
    gather_blocks_kernel[(-(-places // (part * TILES)), pairs)](
        query, key, value, order, hadamard(width, device), value_mean, *laid, *means,
        places, heads, width**-0.5, *strides, HEAD_DIM=width, BLOCK_M=part, TILES=TILES, num_warps=4, num_stages=2,
    )  # fmt: skip
    return BlockedQKV(laid[0], laid[1], laid[2], means[0], means[1], value_mean)


def from_blocks(output: Tensor, laid: BlockedQKV, places: Tensor, dtype: torch.dtype) -> Tensor:
    """What attention gave, like `laid.query`, as (batch, tokens, heads, head width); `places` is token → position."""
    if laid.value_mean is None:
        return output.transpose(1, 2).index_select(1, places).to(dtype)

    from wan_mcp.engine.attention.block_layout_triton import scatter_blocks_kernel

    batch, heads, length, width = output.shape
    result = torch.empty(batch, len(places), heads, width, dtype=dtype, device=output.device)
    scatter_blocks_kernel[(SCATTER.num_programs(len(places)), batch * heads)](
        output.contiguous(), places, laid.value_mean, result,
        length, len(places), heads, *result.stride()[:3], HEAD_DIM=width, **SCATTER.options(),
    )  # fmt: skip
    return result


def block_scores(laid: BlockedQKV) -> Tensor:
    """The router's score of each block of keys for each of queries: (batch, heads, blocks, blocks) float32.

    A block's own score is infinite.
    """
    batch, heads, lines, width = laid.query_means.shape
    blocks = lines // PARTS
    scores = torch.empty(batch, heads, blocks, blocks, device=laid.query.device)
    if laid.query.is_cuda:
        from wan_mcp.engine.attention.block_layout_triton import block_score_kernel

        block_score_kernel[(-(-blocks // BLOCK_B), batch * heads)](
            laid.query_means, laid.key_means, scores, blocks, width**-0.5,
            HEAD_DIM=width, PARTS=PARTS, BLOCK_B=BLOCK_B, num_warps=4,
        )  # fmt: skip
        return scores
    for first in range(0, heads, HEADS_AT_ONCE):
        some = slice(first, first + HEADS_AT_ONCE)
        parts = laid.query_means[:, some] @ laid.key_means[:, some].transpose(-1, -2) * width**-0.5
        parts = parts.unflatten(3, (blocks, PARTS)).logsumexp(-1)
        scores[:, some] = parts.unflatten(2, (blocks, PARTS)).logsumexp(3)
    scores.diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return scores
