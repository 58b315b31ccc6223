"""Which blocks keep a place on the device, which share one, and which take turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from wan_mcp.engine.transformer.weight_store import Item

__all__ = ["RING", "SlotPlan", "plan_slots"]

RING = 3
"""Places that streamed blocks take turns in: one computes, one is ready, one is being filled."""


@dataclass(frozen=True)
class SlotPlan:
    """The places on the device, and whose they are."""

    slot_of: dict[Item, int]
    """The place of each block that has a fixed one. Blocks of two denoisers may share it: one at a time runs."""
    sizes: tuple[int, ...]
    """Bytes of each place; the ring's are the last."""
    ring: range
    """The places of all other blocks."""
    resident: int
    """How many blocks of the denoiser that runs have a fixed place."""
    separate: int
    """How many blocks need not be copied even when another denoiser takes over."""

    @property
    def bytes(self) -> int:
        """What all places take."""
        return sum(self.sizes)


def plan_slots(sizes: Sequence[Sequence[int]], budget: int, ring: int = RING) -> SlotPlan:
    """The slot_plan that copies least within `budget` bytes, for blocks of `sizes`: of each denoiser, of each block.

    A place that spares a copy at every step comes before one that spares it when denoisers change. Where even the
    ring has no room, there is the ring alone.
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
        # The first blocks: while they compute, the others come.
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
    """So many blocks evenly among all, the last with them: each copy runs while as many others compute as can be."""
    streamed = min(streamed, blocks)
    return [(turn + 1) * blocks // streamed - 1 for turn in range(streamed)]
