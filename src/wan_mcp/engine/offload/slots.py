"""Slot assignment: the blocks with a fixed slot on the device, with a shared one, and in the ring."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from wan_mcp.engine.transformer.weight_store import Item

__all__ = ["RING", "SlotPlan", "plan_slots"]

RING = 3
"""Slots in the ring of streamed blocks: one computes, one is ready, one is being filled."""


@dataclass(frozen=True)
class SlotPlan:
    """The slots on the device, and their blocks."""

    slot_of: dict[Item, int]
    """Slot of each fixed block. Blocks of two denoisers may share one: only one denoiser runs at a time."""
    sizes: tuple[int, ...]
    """Bytes of each slot; the ring's slots come last."""
    ring: range
    """The slots of all other blocks."""
    resident: int
    """Number of blocks of the running denoiser with a fixed slot."""
    separate: int
    """Number of blocks that are not copied even if the denoiser changes."""

    @property
    def bytes(self) -> int:
        """Return the size of all slots."""
        return sum(self.sizes)


def plan_slots(sizes: Sequence[Sequence[int]], budget: int, ring: int = RING) -> SlotPlan:
    """Return the plan with the fewest copies within `budget` bytes, for block `sizes` by denoiser and block.

    A slot that saves a copy at every step has priority over one that saves it when denoisers change. If not even the
    ring fits, the plan is the ring alone.
    """
    widest = [max(column) for column in zip_longest(*sizes, fillvalue=0)]
    streamed: list[int] = []
    while _bytes(widest, streamed, ring) > budget and len(streamed) < len(widest):
        streamed = _spread(len(widest), max(len(streamed), ring) + 1)
    fixed = [number for number in range(len(widest)) if number not in set(streamed)]
    slots = [widest[number] for number in fixed]
    place = {number: slot for slot, number in enumerate(fixed)}
    slot_of = {(d, b): place[b] for d, blocks in enumerate(sizes) for b in range(len(blocks)) if b in place}
    separate = 0
    if not streamed:
        # The first blocks: while they compute, the others are copied.
        for number in fixed:
            others = [d for d, blocks in enumerate(sizes) if d > 0 and number < len(blocks)]
            if sum(slots) + sum(sizes[d][number] for d in others) > budget:
                break
            for d in others:
                slot_of[d, number] = len(slots)
                slots.append(sizes[d][number])
            separate += 1
    turns = [max((widest[number] for number in streamed), default=0)] * min(ring, len(streamed))
    return SlotPlan(
        slot_of, (*slots, *turns), range(len(slots), len(slots) + len(turns)), resident=len(fixed), separate=separate
    )


def _bytes(widest: Sequence[int], streamed: Sequence[int], ring: int) -> int:
    turns = max((widest[number] for number in streamed), default=0) * min(ring, len(streamed))
    return sum(widest) - sum(widest[number] for number in streamed) + turns


def _spread(blocks: int, streamed: int) -> list[int]:
    """Return `streamed` blocks spread evenly, including the last, so that each copy overlaps with many computations."""
    streamed = min(streamed, blocks)
    return [(turn + 1) * blocks // streamed - 1 for turn in range(streamed)]
