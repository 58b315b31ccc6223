"""Blocks that live in host memory and are streamed to the device that computes."""

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

MIN_GROWTH = 1.1
"""How many times more room blocks must have to be placed anew, which copies all of them once."""


@dataclass
class _Slot:
    """Memory of the device that holds one block at a time."""

    buffer: Tensor
    used: Event
    """Behind the last work with what it holds, or held; whatever overwrites it waits for that."""
    holds: Item | None = None
    ready: Event | None = None
    """Behind the copy that fills it, until computing has waited for it."""
    views: dict[BlockLayout, list[Tensor]] = field(default_factory=dict)


class BlockSwap:
    """Blocks that live in host memory and are copied to places on the device, ahead of the work where possible.

    As many places as the budget allows belong to fixed blocks; the others take turns in a ring. A place is
    overwritten once nothing that comes before its next block needs it, so that in the steady state the next blocks are
    copied while the present one computes; and when another denoiser takes over, its blocks move in one by one behind
    the work of the former's last pass, if `announce` has told of it.
    """

    home = torch.device("cpu")

    def __init__(
        self, device: torch.device, host: PinnedPool, streams: CopyStreams, budget: int, ring: int = RING
    ) -> None:
        """`budget` is in bytes, for the blocks on the device."""
        self._device = device
        self._host = host
        self._streams = streams
        self._budget = budget
        self._ring = ring
        self._blocks: dict[Item, BlockWeights] = {}
        self._layouts: dict[Item, BlockLayout] = {}
        self._lengths: list[int] = []
        self._slot_plan: SlotPlan | None = None
        self._places: list[_Slot] = []
        self._at: dict[Item, _Slot] = {}
        self._ring_turn = 0
        self._in_use: Item | None = None
        """The block whose place is being read by work that may still be asked for."""
        self._last: Item | None = None
        """The block that came last in the present pass."""
        self._passes: list[int] | None = None
        """The passes to come; None where nobody has said."""
        self.copied_bytes = 0
        """So far, for measurements."""

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
        """How the blocks are placed, or would be within another budget."""
        sizes = [[self._layouts[d, b].step_bytes for b in range(length)] for d, length in enumerate(self._lengths)]
        return plan_slots(sizes, self._budget if budget is None else budget, self._ring)

    @property
    def evictable_bytes(self) -> int:
        return sum(place.buffer.nbytes for place in self._places)

    def resize(self, budget: int) -> None:
        """Have another budget from now on, if there is less room than is held, or so much more that it is worth it."""
        held, wanted = self.evictable_bytes, self.slot_plan(budget).bytes
        if held > budget or wanted > MIN_GROWTH * held:
            self.evict()
            self._budget = budget

    def describe(self) -> str:
        """Where how many blocks are, in words."""
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
        # Once for each text: not worth a place.
        return [tensor.to(self._device, non_blocking=True) for tensor in self._blocks[item].of_text]

    def evict(self) -> None:
        self._streams.synchronize_copies()
        self._places, self._at, self._slot_plan, self._in_use = [], {}, None, None

    def _release(self) -> None:
        """All work with the block in use has been asked for: behind it, its place may be overwritten."""
        if self._in_use is not None:
            self._at[self._in_use].used = self._streams.record_compute()
            self._in_use = None

    def _begin(self, item: Item) -> None:
        """Note where the present pass is, and which passes are left when it is a new one."""
        starts = self._last is None or item[0] != self._last[0] or item[1] <= self._last[1]
        self._last = item
        if starts and self._passes is not None:
            denoiser = item[0]
            # Passes may be left out; one that nobody has expected makes the rest of what was said worthless.
            known = denoiser in self._passes
            self._passes = self._passes[self._passes.index(denoiser) + 1 :] if known else None

    def _upcoming(self) -> Iterator[Item]:
        """The blocks to come, in their order, as far as that is known."""
        passes = self._passes
        if self._last is not None:
            denoiser, block = self._last
            yield from ((denoiser, number) for number in range(block + 1, self._lengths[denoiser]))
            passes = [denoiser] if passes is None else passes
        for denoiser in passes or ():
            yield from ((denoiser, number) for number in range(self._lengths[denoiser]))

    def _prefetch(self) -> None:
        """Ask for the copies of as many blocks to come as there is room for, none before one that comes sooner."""
        sooner = {self._in_use} if self._in_use is not None else set()
        for item in islice(self._upcoming(), max(self._lengths)):
            if item not in self._at:
                place = self._room_for(item, sooner)
                if place is None:
                    return
                self._load(item, place)
            sooner.add(item)

    def _room_for(self, item: Item, sooner: set[Item]) -> _Slot | None:
        """The place that a block can have without taking it from one of `sooner`."""
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
        """Ask for the copy of a block into a place."""
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
