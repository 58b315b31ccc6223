"""A device in plain memory whose two queues are watched: copies as early or as late as the marks allow, and no races.

What a copy will overwrite is NaN from the moment when it may begin, and memory is NaN when it is new.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.offload.block_swap import BlockSwap
from wan_mcp.engine.offload.pinned_memory import PinnedPool
from wan_mcp.engine.transformer.weight_store import Item

NAN = 255
"""Every float of these bytes is NaN, also e4m3."""


class Race(AssertionError):
    """Two queues use the same memory and nothing says which is first."""


class WatchedLanes:
    """See `CopyStreams`: computing happens at once, as the tests ask for it; copies early or late."""

    def __init__(self, *, late: bool) -> None:
        self.late = late
        self.allocated = 0
        self._computed = self._copied = 0
        self._copies_behind = self._computing_behind = 0
        self._last_read: dict[int, int] = {}
        self._last_write: dict[int, int] = {}
        self._waiting: list[tuple[int, Tensor, Tensor]] = []
        self._kept: list[Tensor] = []

    def allocate(self, size: int) -> Tensor:
        memory = torch.full((size,), NAN, dtype=torch.uint8)
        self._kept.append(memory)  # so that no address comes twice
        self.allocated += size
        self._read(memory)  # by whatever had the memory before
        return memory

    def _read(self, tensor: Tensor) -> None:
        self._computed += 1
        self._last_read[_memory(tensor)] = self._computed

    def reads(self, tensors: Sequence[Tensor]) -> None:
        """Computing reads these."""
        for tensor in tensors:
            if self._last_write[_memory(tensor)] > self._computing_behind:
                raise Race("read before the copy is known to be done")
            self._read(tensor)

    def record_compute(self) -> Any:
        return self._computed

    def copy(self, pairs: Sequence[tuple[Tensor, Tensor]], after: Any) -> Any:
        self._copies_behind = max(self._copies_behind, after or 0)
        self._copied += 1
        for target, source in pairs:
            if self._last_read[_memory(target)] > self._copies_behind:
                raise Race("overwritten while it may still be read")
            self._last_write[_memory(target)] = self._copied
            target.view(torch.uint8).fill_(NAN)
            self._waiting.append((self._copied, target, source))
        if not self.late:
            self._run(self._copied)
        return self._copied

    def _run(self, last: int) -> None:
        while self._waiting and self._waiting[0][0] <= last:
            _, target, source = self._waiting.pop(0)
            target.copy_(source)

    def wait_for_copy(self, mark: Any) -> None:
        self._computing_behind = max(self._computing_behind, mark)
        self._run(mark)

    def synchronize_copies(self) -> None:
        self._run(self._copied)


def _memory(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


class WatchedStreamed(BlockSwap):
    """BlockSwap blocks on watched streams; keeps which blocks were asked for and how many were there already."""

    def __init__(self, budget: int, *, late: bool = True, ring: int = 3, pinned: int = 1 << 40) -> None:
        self.streams = WatchedLanes(late=late)
        host = PinnedPool(pinned, lambda pages: True)
        super().__init__(torch.device("cpu"), host, self.streams, budget, ring)
        self.asked: list[Item] = []
        self.late_blocks: list[Item] = []

    def get(self, item: Item) -> list[Tensor]:
        if item not in self._at:
            self.late_blocks.append(item)
        self.asked.append(item)
        tensors = super().get(item)
        self.streams.reads(tensors)
        return tensors
