"""Ulysses context parallel: ranks share a forward, by tokens in its products and by heads in its self-attention.

(Jacobs et al. 2023, DeepSpeed-Ulysses.) The blocks' arithmetic does not know of it: tokens are split before the first
block and gathered behind the last layer, and the operator of self-attention exchanges tokens for heads and back. A
compiled package calls that operator too, and serves any number of tokens.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from wan_mcp.engine.parallel.rank_group import Exchange, RankGroup

__all__ = ["ContextParallel", "context_parallel", "current_context"]

_CURRENT: ContextVar["ContextParallel | None"] = ContextVar("context parallel", default=None)


def current_context() -> "ContextParallel | None":
    """Return how forwards of this thread are shared, None if they are not."""
    return _CURRENT.get()


@contextmanager
def context_parallel(group: RankGroup | None) -> "Iterator[ContextParallel | None]":
    """Share the forwards of this thread between the ranks of `group`; None, or a group of one, shares nothing."""
    context = None if group is None or group.size == 1 else ContextParallel(group)
    token = _CURRENT.set(context)
    try:
        yield context
    finally:
        _CURRENT.reset(token)


class ContextParallel:
    """How the tokens of a forward are shared, and the exchanges of its self-attention.

    Each rank has a contiguous part of the tokens. Parts differ by one token where the ranks do not divide their number.
    """

    def __init__(self, group: RankGroup) -> None:
        self.group = group
        self.counts: list[int] = []
        """The number of tokens of each rank in the current forward."""

    @property
    def ranks(self) -> int:
        """Return the number of ranks."""
        return self.group.size

    @property
    def tokens(self) -> int:
        """Return the number of tokens of the current forward, of all ranks."""
        return sum(self.counts)

    def begin(self, tokens: int) -> None:
        """Begin a forward over this many tokens."""
        whole, more = divmod(tokens, self.ranks)
        self.counts = [whole + (rank < more) for rank in range(self.ranks)]

    def mine(self, x: Tensor, dim: int) -> Tensor:
        """Return this rank's tokens of `x`, whose dimension `dim` has all of the current forward."""
        start = sum(self.counts[: self.group.rank])
        return x.narrow(dim, start, self.counts[self.group.rank])

    def first_of_every(self, stride: int) -> int:
        """Return the index in this rank's tokens of the first whose index in all tokens is a multiple of `stride`."""
        return -sum(self.counts[: self.group.rank]) % stride

    def gathered(self, x: Tensor) -> Tensor:
        """Return all tokens (1, tokens, n) from this rank's tokens (1, my tokens, n)."""
        most, missing = max(self.counts), max(self.counts) - x.shape[1]
        padded = torch.cat([x, x[:, -1:].expand(-1, missing, -1)], 1) if missing else x
        parts = self.group.all_gather(padded[0])
        if min(self.counts) == most:
            return parts.flatten(0, 1)[None]
        return torch.cat([part[:count] for part, count in zip(parts, self.counts, strict=True)])[None]

    def of_my_heads(self, x: Tensor) -> Tensor:
        """Return a tensor without contents, of the shape that attention has here for all heads of `x`.

        Args:
            x: (1, my tokens, heads, head_dim).

        Returns:
            (1, tokens, my heads, head_dim); all elements are the same one.
        """
        return x.new_empty(()).expand(1, self.tokens, self.heads_of(x.shape[2]), x.shape[3])

    def heads_of(self, heads: int) -> int:
        """Return how many of the heads each rank has.

        Raises:
            ValueError: the ranks do not divide them.
        """
        if heads % self.ranks:
            raise ValueError(f"{heads} heads cannot be shared between {self.ranks} ranks")
        return heads // self.ranks

    def to_heads(self, x: Tensor) -> Exchange:
        """Exchange (1, my tokens, heads, head_dim) for (tokens, my heads, head_dim)."""
        by_rank = x[0].unflatten(1, (self.ranks, self.heads_of(x.shape[2]))).transpose(0, 1)
        return self.groups_to_heads(by_rank.contiguous())

    def groups_to_heads(self, groups: Tensor) -> Exchange:
        """Exchange (ranks, my tokens, their heads, head_dim), contiguous, for (tokens, my heads, head_dim)."""
        return self.group.all_to_all(groups.flatten(0, 1), [groups.shape[1]] * self.ranks, self.counts)

    def to_tokens(self, x: Tensor) -> Tensor:
        """Exchange (1, tokens, my heads, head_dim) for (1, my tokens, heads, head_dim)."""
        return self.to_groups(x).transpose(0, 1).flatten(1, 2)[None]

    def to_groups(self, x: Tensor) -> Tensor:
        """Exchange (1, tokens, my heads, head_dim) for (ranks, my tokens, their heads, head_dim)."""
        mine = self.counts[self.group.rank]
        rows = self.group.all_to_all(x[0].contiguous(), self.counts, [mine] * self.ranks).finish()
        return torch.unflatten(rows, 0, (self.ranks, mine))
