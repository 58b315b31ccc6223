"""Streaming of blocks from host memory to the compute device."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor

from wan_mcp.engine.offload.packing import BlockLayout
from wan_mcp.engine.offload.pinned_memory import PackedWeights, PinnedPool
from wan_mcp.engine.offload.slots import RING, SlotPlan, plan_slots
from wan_mcp.engine.offload.streams import CopyStreams, Event
from wan_mcp.engine.transformer.weight_store import Item
from wan_mcp.engine.transformer.weights import BlockWeights
from wan_mcp.text import in_bytes

__all__ = ["BlockSwap"]

ALL = 1 << 62
"""A budget for all blocks."""
SHRINK = 0.75
"""Factor by which blocks shrink when memory has run out."""
MIN_GROWTH = 1.1
"""Factor by which the budget must grow before blocks are placed again, which copies all of them once."""


@dataclass
class _Slot:
    """Device memory that holds one block at a time."""

    buffer: Tensor
    used: Event
    """Recorded after the last work that reads the slot; a copy into it must wait for this event."""
    holds: Item | None = None
    ready: Event | None = None
    """Recorded after the copy that fills the slot; cleared when the compute stream has waited for it."""
    views: dict[BlockLayout, list[Tensor]] = field(default_factory=dict)


class BlockSwap:
    """Blocks in host memory that are copied to slots on the device, prefetched where possible.

    As many slots as the budget allows are assigned to fixed blocks; the other blocks share a ring. A slot is
    overwritten once no block before its next one needs it. In the steady state, the next blocks are therefore copied
    while the current one computes. When denoisers change, the blocks of the next one are copied one by one during the
    last pass of the previous one, if `announce` was called.
    """

    home = torch.device("cpu")

    def __init__(
        self, device: torch.device, host: PinnedPool, streams: CopyStreams, budget: int, ring: int = RING
    ) -> None:
        """Place no blocks yet; `budget` is the device memory for blocks, in bytes."""
        self._device = device
        self._host = host
        self._streams = streams
        self._budget = budget
        self._ring = ring
        self._shortage = 0
        """Bytes by which budgets were too large so far: memory ran out."""
        self._blocks: dict[Item, BlockWeights] = {}
        self._layouts: dict[Item, BlockLayout] = {}
        self._lengths: list[int] = []
        self._slot_plan: SlotPlan | None = None
        self._places: list[_Slot] = []
        self._at: dict[Item, _Slot] = {}
        self._ring_turn = 0
        self._in_use: Item | None = None
        """The block whose slot may still be read by work that is enqueued later."""
        self._last: Item | None = None
        """The last block of the current pass so far."""
        self._passes: list[int] | None = None
        """The next passes; None if not announced."""
        self.copied_bytes = 0
        """Count so far, for measurements."""

    def place(self, weights: BlockWeights) -> BlockWeights:
        return self._host.take(weights)

    def add(self, blocks: Sequence[BlockWeights]) -> int:
        self._lengths.append(len(blocks))
        self.replace(len(self._lengths) - 1, blocks)
        return len(self._lengths) - 1

    def drop(self, denoiser: int) -> None:
        self.evict()
        for number in range(self._lengths[denoiser]):
            self._blocks.pop((denoiser, number), None)

    def replace(self, denoiser: int, blocks: Sequence[BlockWeights]) -> None:
        self.evict()
        for number, weights in enumerate(blocks):
            self._blocks[denoiser, number] = weights
            self._layouts[denoiser, number] = BlockLayout.of(weights)

    def slot_plan(self, budget: int | None = None) -> SlotPlan:
        """Return the placement of the blocks, or the one within another budget."""
        sizes = [[self._layouts[d, b].step_bytes for b in range(length)] for d, length in enumerate(self._lengths)]
        return plan_slots(sizes, self._budget if budget is None else budget, self._ring)

    @property
    def evictable_bytes(self) -> int:
        return sum(place.buffer.nbytes for place in self._places)

    @property
    def least_bytes(self) -> int:
        """Return the device memory that blocks need at least: that of the ring."""
        return self.slot_plan(0).bytes

    def shrink(self) -> bool:
        held, budget = self.slot_plan().bytes, min(self._budget, self.slot_plan(ALL).bytes)
        self.evict()
        if held <= self.least_bytes:
            return False
        self._budget = max(self.least_bytes, round(held * SHRINK))
        self._shortage += budget - self._budget
        return True

    def resize(self, budget: int) -> None:
        """Change the budget, if the current placement exceeds it or a larger one is worth the copies."""
        if self._shortage:
            budget = max(0, min(budget, self.slot_plan(ALL).bytes) - self._shortage)
        held, wanted = self.evictable_bytes, self.slot_plan(budget).bytes
        if held > budget or wanted > MIN_GROWTH * held:
            self.evict()
            self._budget = budget

    def describe(self) -> str:
        """Return a sentence about the placement of the blocks."""
        slot_plan = self.slot_plan()
        blocks, denoisers = max(self._lengths, default=0), len(self._lengths)
        words = f"{slot_plan.resident} of {blocks} blocks stay on the device while their denoiser runs"
        if denoisers > 1:
            words += f", {slot_plan.separate} also while another does"
        return f"{words} ({in_bytes(slot_plan.bytes)})"

    def announce(self, passes: Sequence[int]) -> None:
        self._passes, self._last = list(passes), None
        self._release()
        if self._lengths:
            self._prefetch()

    def get(self, item: Item) -> list[Tensor]:
        self._release()
        self._begin(item)
        if item not in self._at:
            place = self._room_for(item, sooner=set())
            assert place is not None
            self._load(item, place)
        self._in_use = item
        self._prefetch()
        place = self._at[item]
        if place.ready is not None:
            self._streams.wait_for_copy(place.ready)
            place.ready = None
        layout = self._layouts[item]
        if layout not in place.views:
            place.views[layout] = layout.views(place.buffer)
        return place.views[layout]

    def get_context(self, item: Item) -> list[Tensor]:
        # Once per text: not worth a slot.
        return [tensor.to(self._device, non_blocking=True) for tensor in self._blocks[item].of_text]

    def evict(self) -> None:
        self._streams.synchronize_copies()
        self._places, self._at, self._slot_plan, self._in_use = [], {}, None, None

    def _release(self) -> None:
        """Mark the slot of the current block as free after the work enqueued so far."""
        if self._in_use is not None:
            self._at[self._in_use].used = self._streams.record_compute()
            self._in_use = None

    def _begin(self, item: Item) -> None:
        """Update the position in the current pass and, if a new one begins, the remaining passes."""
        starts = self._last is None or item[0] != self._last[0] or item[1] <= self._last[1]
        self._last = item
        if starts and self._passes is not None:
            denoiser = item[0]
            # Passes may be skipped; an unexpected one invalidates the rest of the announcement.
            known = denoiser in self._passes
            self._passes = self._passes[self._passes.index(denoiser) + 1 :] if known else None

    def _upcoming(self) -> Iterator[Item]:
        """Yield the next blocks in order, as far as it is known."""
        passes = self._passes
        if self._last is not None:
            denoiser, block = self._last
            yield from ((denoiser, number) for number in range(block + 1, self._lengths[denoiser]))
            passes = [denoiser] if passes is None else passes
        for denoiser in passes or ():
            yield from ((denoiser, number) for number in range(self._lengths[denoiser]))

    def _prefetch(self) -> None:
        """Enqueue copies of the next blocks, in order, as long as there are free slots."""
        sooner = {self._in_use} if self._in_use is not None else set()
        for item in islice(self._upcoming(), max(self._lengths)):
            if item not in self._at:
                place = self._room_for(item, sooner)
                if place is None:
                    return
                self._load(item, place)
            sooner.add(item)

    def _room_for(self, item: Item, sooner: set[Item]) -> _Slot | None:
        """Return a slot for a block that does not hold one of `sooner`, if there is one."""
        if self._slot_plan is None:
            slot_plan = self.slot_plan()
            self._places = [
                _Slot(self._streams.allocate(size), self._streams.record_compute()) for size in slot_plan.sizes
            ]
            self._slot_plan = slot_plan
        slot = self._slot_plan.slot_of.get(item)
        if slot is not None:
            place = self._places[slot]
            return None if place.holds in sooner else place
        ring = self._slot_plan.ring
        for turn in range(len(ring)):
            place = self._places[ring[(self._ring_turn + turn) % len(ring)]]
            if place.holds not in sooner:
                self._ring_turn += turn + 1
                return place
        return None

    def _load(self, item: Item, place: _Slot) -> None:
        """Enqueue the copy of a block into a slot."""
        if place.holds is not None:
            del self._at[place.holds]
            place.holds = None
        weights, layout = self._blocks[item], self._layouts[item]
        if isinstance(weights, PackedWeights):
            pairs = [(place.buffer[: layout.step_bytes], weights.buffer[: layout.step_bytes])]
        else:
            pairs = list(zip(layout.views(place.buffer), weights.of_block, strict=True))
        place.ready = self._streams.copy(pairs, after=place.used)
        place.holds, self._at[item] = item, place
        self.copied_bytes += layout.step_bytes
