"""Block routing: the key blocks that each query block attends to, and the order of tokens in blocks.

The router needs no training. It is SubBlock of sglang's `subblock_sparse_attn` (sgl-project/sglang pull request 34148):
a block's share of softmax is estimated from the means of its sub-blocks,

    score(i, j) = log Σ_ab exp(mean(Q_ia) · mean(K_jb) / sqrt(head_dim))     (`block_layout.block_scores`)

and each query block keeps the key blocks with the highest scores. Means are more
informative if a block's tokens are neighbours, so a video's tokens are grouped in boxes of time, height and width
instead of rows (as in video sparse attention, Zhang et al. 2025).
"""

from functools import lru_cache
from itertools import product

import torch
from torch import Tensor

__all__ = ["BLOCK", "box_order", "kept_blocks", "padded_order"]

BLOCK = 128
"""Tokens per block of queries and of keys: the block size of Hopper's kernels."""
BOX = (4, 4, 8)
"""Frames, rows and columns of latent tokens in a block."""

Grid = tuple[int, int, int]


@lru_cache(maxsize=16)
def box_order(grid: Grid, box: Grid = BOX) -> Tensor:
    """Return the order of a video's tokens (frames * rows * columns), box by box: position → token.

    The boxes are in boustrophedon order, so that a block that straddles two of them still contains neighbours. Sizes
    that are not multiples of the box have smaller boxes at the edges.
    """
    numbers = torch.arange(grid[0] * grid[1] * grid[2]).view(grid)
    counts = [-(-size // edge) for size, edge in zip(grid, box, strict=True)]
    pieces = []
    for time, row, column in product(*map(range, counts)):
        row = row if time % 2 == 0 else counts[1] - 1 - row
        column = column if (time * counts[1] + row) % 2 == 0 else counts[2] - 1 - column
        start = [place * edge for place, edge in zip((time, row, column), box, strict=True)]
        t, h, w = (slice(first, first + edge) for first, edge in zip(start, box, strict=True))
        pieces.append(numbers[t, h, w].flatten())
    return torch.cat(pieces)


@lru_cache(maxsize=16)
def padded_order(tokens: int, grid: Grid | None, block: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the order of tokens padded to whole blocks: (position → token, token → position).

    The padding repeats tokens from all over the sequence: in kernels without masking, zero keys would get a share of
    softmax, and repeating few of many tokens hardly changes a mean.
    """
    order = box_order(grid) if grid is not None else torch.arange(tokens)
    if len(order) != tokens:
        raise ValueError(f"a grid of {grid} has {len(order)} tokens, but the input has {tokens}")
    places = torch.empty_like(order)
    places[order] = torch.arange(tokens)
    missing = -tokens % block
    again = torch.linspace(0, tokens - 1, missing).long()
    return torch.cat([order, order[again]]).to(device), places.to(device)


def kept_blocks(scores: Tensor, keep: int) -> Tensor:
    """Return the `keep` key blocks with the highest scores (…, query blocks, key blocks) for each query block.

    The result is (…, query blocks, keep) int32, ascending, as the kernels require.
    """
    return scores.topk(keep, -1, sorted=False).indices.int().sort(-1).values
