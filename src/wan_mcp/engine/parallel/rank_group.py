"""The ranks that work on one job, and their collectives, each with a time limit.

A rank is a process with one device. Devices of one job are equal, so that the same arithmetic has the same bits.
"""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from wan_mcp.engine.parallel.rank_watch import held_rank_file, watched_ranks
from wan_mcp.errors import RankLost
from wan_mcp.text import first_line

__all__ = ["LOST_WITHIN_S", "Exchange", "RankGroup", "joined_ranks"]

log = logging.getLogger(__name__)

_all_gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # renamed in torch 2.13

ENVIRONMENT = {
    "GLOO_SOCKET_IFNAME": "lo",
    "NCCL_SOCKET_IFNAME": "lo",  # for the handshake only; tensors travel through NVLink or shared memory
    "NCCL_NVLS_ENABLE": "0",  # all-to-all does not use NVLink's multicast, and some hosts hang in its setup
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "2",  # CleanUpOnly: after the time limit, end the collective, not the process
}
"""Set unless the user has set them: all ranks of a job are on this machine."""

COLLECTIVE_LIMIT_S = 120.0
"""Seconds after which ranks give up an exchange that not all of them have reached. The first step selects kernels."""
LOST_WITHIN_S = 3 * COLLECTIVE_LIMIT_S
"""Seconds within which a rank notices that another is lost: it may wait for some of the ranks first, then for all."""


@dataclass(frozen=True)
class Exchange:
    """Rows on their way between ranks."""

    _rows: Tensor
    _sent: Tensor
    """Referenced until it has been read."""
    _work: Any

    def finish(self) -> Tensor:
        """Return the received rows; what the device does with them waits until they are there.

        Raises:
            RankLost: another rank does not answer.
        """
        with _lost_ranks():
            self._work.wait()
        return self._rows


class RankGroup:
    """Some of a job's ranks, as seen by one of them."""

    def __init__(self, group: dist.ProcessGroup, ranks: Sequence[int], device: torch.device) -> None:
        """Wrap a process group of these global ranks."""
        self._group = group
        self._ranks = list(ranks)
        self.device = device
        self.size = len(ranks)
        self.rank = self._ranks.index(dist.get_rank())
        """The index in this group."""

    def subgroups(self, groups: Sequence[Sequence[int]]) -> "RankGroup":
        """Split this group into others; return the one with this rank. All ranks call it with the same arguments.

        `groups` are disjoint and contain the indices of all ranks.
        """
        found: RankGroup | None = None
        for indices in groups:
            ranks = [self._ranks[index] for index in indices]
            with _lost_ranks():
                group = dist.new_group(ranks)
            if self.rank in indices:
                found = RankGroup(group, ranks, self.device)
        if found is None:
            raise ValueError(f"rank {self.rank} is in none of the groups {groups}")
        return found

    def all_gather(self, tensor: Tensor) -> Tensor:
        """Return the tensors of all ranks, (ranks, *shape), in their order; all have the same shape."""
        return self._gather_into(
            torch.empty((self.size, *tensor.shape), dtype=tensor.dtype, device=tensor.device), tensor
        )

    def _gather_into(self, out: Tensor, tensor: Tensor) -> Tensor:
        with _lost_ranks():
            _all_gather(_bytes(out).view(-1), _bytes(tensor.contiguous()).view(-1), self._group)
        return out

    def all_to_all(self, tensor: Tensor, sent: Sequence[int], received: Sequence[int]) -> "Exchange":
        """Send the first `sent[0]` rows of (rows, …, n) to rank 0, the next `sent[1]` to rank 1, and so on.

        The device goes on meanwhile. The result has the rows of all ranks in their order, `received[r]` of rank r.
        """
        out = torch.empty((sum(received), *tensor.shape[1:]), dtype=tensor.dtype, device=tensor.device)
        with _lost_ranks():
            work = dist.all_to_all_single(
                _bytes(out), _bytes(tensor), list(received), list(sent), group=self._group, async_op=True
            )
        return Exchange(out, tensor, work)

    def broadcast(self, tensor: Tensor) -> Tensor:
        """Return the first rank's tensor; the others pass one of its shape and dtype, which is overwritten."""
        with _lost_ranks():
            dist.broadcast(_bytes(tensor), self._ranks[0], self._group)
        return tensor

    def least(self, number: int) -> int:
        """Return the smallest of the ranks' numbers, which are positive. The host waits for it.

        NCCL ends a collective at its time limit without an exception; the number of a lost rank is then missing. So a
        return means that every rank was here, and that what they exchanged before is complete.

        Raises:
            RankLost: another rank does not answer.
        """
        numbers = torch.zeros((self.size, 1), dtype=torch.int64, device=self.device)
        found = int(self._gather_into(numbers, torch.tensor([number], device=self.device)).min())
        if found <= 0:
            raise RankLost("another device of this job does not answer")
        return found

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.size}"


@contextmanager
def joined_ranks(
    folder: Path, rank: int, size: int, device: torch.device, time_limit_s: float = COLLECTIVE_LIMIT_S
) -> Iterator[RankGroup]:
    """Join the group of all ranks of one job for the `with` block.

    Args:
        folder: where the ranks meet: an empty folder, only for this attempt, that other users cannot enter.
        rank: of this process, from 0.
        size: the number of ranks, which all join within the time limit.
        device: the device of this rank.
        time_limit_s: after which a collective fails that not all ranks have called.

    Raises:
        RankLost: another rank did not come, or a collective failed in the block.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    limit = timedelta(seconds=time_limit_s)
    backend = "nccl" if device.type == "cuda" else "gloo"
    with held_rank_file(folder, rank):
        with _lost_ranks():
            store = dist.FileStore(str(folder / "ranks"), size)  # type: ignore[attr-defined]
            store.set_timeout(limit)
            dist.init_process_group(
                backend, store=store, rank=rank, world_size=size, timeout=limit,
                device_id=device if device.type == "cuda" else None,
            )  # fmt: skip
        try:
            group = dist.group.WORLD
            assert group is not None, "it was just made"
            with watched_ranks(folder, rank, size, _end_collectives):
                yield RankGroup(group, range(size), device)
        except BaseException:
            # Without waiting for what the others may never answer.
            _end(abort=True)
            raise
        else:
            _end(abort=False)


def _end_collectives() -> None:
    """End what this process waits for: gloo does so when a connection ends, NCCL only at the time limit.

    The groups remain, and each further use of them raises an error.
    """
    if dist.get_backend() != "nccl":
        return
    groups = sorted(dist.distributed_c10d._world.pg_names, key=lambda group: str(group.group_name), reverse=True)
    backend: Any = groups[0]._get_backend(torch.device("cuda"))
    backend._group_start()  # of several communicators, each would wait for the others to be ended
    for group in groups:
        group.abort()
    backend._group_end()


def _end(*, abort: bool) -> None:
    """End all groups of this process."""
    try:
        if abort and dist.get_backend() == "nccl":
            dist.distributed_c10d._abort_process_group()
        else:
            dist.destroy_process_group()
    except RuntimeError as error:
        log.warning("the group of ranks did not end in good order: %s", first_line(error))


@contextmanager
def _lost_ranks() -> Iterator[None]:
    """Translate what torch raises when a rank does not answer."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise RankLost(f"another device of this job does not answer: {first_line(error)}") from error


def _bytes(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor as bytes along its last dimension: no backend knows e4m3."""
    return tensor.view(torch.uint8)
