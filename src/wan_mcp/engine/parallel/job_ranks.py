"""How the ranks of one job share it: first the passes of guidance, then the tokens of each pass."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.parallel.context_parallel import context_parallel
from wan_mcp.engine.parallel.guidance import shared_guidance
from wan_mcp.engine.parallel.rank_group import RankGroup
from wan_mcp.errors import RankLost

__all__ = ["JobRanks", "can_share"]

MOST_DIMENSIONS = 6
"""Of a tensor that the first rank sends."""
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
STOPS, GOES_ON = 1, 2


def can_share(ranks: int, heads: int, *, guidance: bool) -> bool:
    """Check whether this many ranks can share the forwards of a denoiser with `heads` heads."""
    return heads % (ranks // _branches(ranks, guidance=guidance)) == 0


def _branches(ranks: int, *, guidance: bool) -> int:
    """Return how many passes of a step run at the same time: guidance is shared first, because that is exact."""
    return 2 if guidance and ranks % 2 == 0 else 1


class JobRanks:
    """The ranks of one job, as seen by one of them.

    With guidance, the first half runs the passes with the prompt, the second half those with the negative prompt.
    """

    def __init__(self, group: RankGroup, *, guidance: bool) -> None:
        """Split the group of all ranks; all of them call this with the same arguments."""
        self.group = group
        branches = _branches(group.size, guidance=guidance)
        self.context_size = size = group.size // branches
        self._context, self._branches = group, None
        if branches > 1:
            self._context = group.subgroups([range(size), range(size, 2 * size)])
            self._branches = group.subgroups([(rank, rank + size) for rank in range(size)])

    @property
    def first(self) -> bool:
        """Check whether this is the rank that writes files and reports."""
        return self.group.rank == 0

    @contextmanager
    def sharing(self, denoisers: Sequence[Any], texts: Sequence[Tensor]) -> Iterator[None]:
        """Share the forwards of `denoisers` within the `with` block; see `shared_guidance` for `texts`."""
        with context_parallel(self._context), shared_guidance(denoisers, self._branches, texts):
            yield

    def describe(self) -> dict[str, int]:
        """Return what a receipt says: how many devices shared the job, and how."""
        return {"gpus": self.group.size, "context_parallel": self.context_size}

    @contextmanager
    def together(self) -> Iterator[None]:
        """Stop all ranks if the `with` block raises on one of them. All ranks call this at the same point.

        Raises:
            RankLost: another rank stopped, or does not answer.
        """
        try:
            yield
        except BaseException:
            with suppress(RankLost):
                self.group.least(STOPS)
            raise
        self.agree()

    def agree(self) -> None:
        """Check that all ranks came here, so that what they exchanged is complete. All ranks call this.

        Raises:
            RankLost: another rank stopped, or does not answer.
        """
        if self.group.least(GOES_ON) == STOPS:
            raise RankLost("another device of this job stopped")

    def require_same(self, facts: object) -> None:
        """Check that all ranks pass equal facts, which determine the bits of their results.

        Raises:
            RankLost: they do not, or a rank does not answer.
        """
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).digest()
        all_ranks = self.group.all_gather(torch.tensor(list(digest), dtype=torch.uint8, device=self.group.device))
        if not bool((all_ranks == all_ranks[0]).all()):
            raise RankLost("the devices of this job do not run the model alike")

    def from_first(self, tensor: Tensor | None) -> Tensor:
        """Return the first rank's tensor on all ranks; the others pass None.

        Raises:
            RankLost: another rank does not answer.
        """
        group = self.group
        layout = torch.zeros(MOST_DIMENSIONS + 2, dtype=torch.int64, device=group.device)
        if tensor is not None:
            facts = [DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
            layout[: len(facts)] = torch.tensor(facts, device=group.device)
        dtype, dims, *shape = group.broadcast(layout).tolist()
        if tensor is None:
            tensor = torch.empty(shape[:dims], dtype=DTYPES[dtype], device=group.device)
            return group.broadcast(tensor)
        # A copy: a caller who sends the same tensor twice has two, as the other ranks do.
        return group.broadcast(tensor.clone(memory_format=torch.contiguous_format))
