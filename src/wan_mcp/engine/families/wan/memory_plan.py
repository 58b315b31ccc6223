"""Where a model's parts will lie, said before it is loaded; and room for each job, made before it starts.

The figures are those of `fitting`, which the door uses too; what is free is asked of the device.
"""

import logging
from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import (
    CPU_PRECISIONS,
    RESERVE_BYTES,
    Placement,
    activation_bytes,
    default_shape,
    denoiser_bytes,
    extreme_shapes,
    largest_fitting,
    placement_for,
    room_for_blocks,
    weights_bytes,
)
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.memory import available_bytes
from wan_mcp.engine.offload.block_swap import BlockSwap
from wan_mcp.engine.offload.pinned_memory import PinnedPool, cuda_pin, pinnable_bytes
from wan_mcp.engine.offload.streams import CudaStreams
from wan_mcp.engine.transformer.weight_store import ResidentWeights, WeightStore
from wan_mcp.schema.enums import ComputePrecision
from wan_mcp.schema.plans import ImagePlan, Shape, VideoPlan
from wan_mcp.text import in_bytes

__all__ = ["MemoryPlan", "job_bytes", "make_room", "memory_plan"]


log = logging.getLogger(__name__)
SCATTERED_BYTES = 1_500_000_000
"""Beside large blocks, measured with two experts of 14B: 0.8 GB for a text's keys and values, and 1 GB that an
allocator has and cannot use; the reserve has a part of it."""
GRAPHS_BYTES = 700_000_000
"""The most that CUDA graphs of small passes hold: 480 MiB measured with TI2V-5B at 704x1280x9, of which the largest
pass that is recorded has a fifth more tokens."""
MOVING = (Placement.SWAPPED, Placement.OFFLOADED)
DESCRIPTIONS = {
    Placement.RESIDENT_FP8: "all blocks on the device, in FP8",
    Placement.RESIDENT_BF16: "all blocks on the device",
    Placement.SWAPPED: "one expert on the device, the other's blocks move in as it takes over",
    Placement.OFFLOADED: "blocks that have no room on the device are streamed to it in every pass",
    Placement.CPU: "in main memory",
    Placement.MAPPED: "in their files, from which each layer reads its weights in every pass",
}


@dataclass(frozen=True)
class MemoryPlan:
    """Where a model's blocks will lie."""

    model: str
    precision: ComputePrecision
    """What its blocks compute in."""
    memory_bytes: int
    """What it may take of the device, with the reserve."""
    placement: Placement
    stays: bool
    """Whether the blocks stay on the device whatever size is asked for."""
    room: int
    """For blocks on the device, in bytes, while a result of the usual size is made."""
    working: int
    """What a result needs besides all weights: the largest where blocks stay, the usual where they move."""
    whole: bool
    """Whether all of it stays, the text encoder too: nothing comes from main memory in a pass."""
    spare: int
    """What is left of the memory if all of it stays; negative where it does not."""
    text: int
    """The text encoder's bytes, which will lie in main memory where blocks move."""
    largest: dict[str, int]
    """The named sizes that fit, each with the most frames."""

    def describe(self) -> str:
        """Describe the plan in one sentence."""
        by_frames: dict[int, list[str]] = {}
        for name, frames in self.largest.items():
            by_frames.setdefault(frames, []).append(name)
        sizes = "; ".join(f"up to {frames} frames at {', '.join(names)}" for frames, names in by_frames.items())
        return (
            f"{self.model} in {self.precision}, {in_bytes(self.memory_bytes)} available: "
            f"{DESCRIPTIONS[self.placement]}; "
            f"{f'room for {sizes}' if sizes else 'no size has room'}"
        )

    @property
    def to_come(self) -> int:
        """Bytes of the device that blocks and jobs will still take when a model is loaded."""
        return self.working + (0 if self.stays else self.room)

    def weight_store(self, device: Device) -> WeightStore:
        """Return what carries out the plan for the denoisers of one loaded model."""
        if self.stays:
            return ResidentWeights(device.torch)
        host = PinnedPool(max(0, pinnable_bytes() - self.text), cuda_pin(device.torch))
        return BlockSwap(device.torch, host, CudaStreams(device.torch), self.room)


def memory_plan(
    manifest: Manifest, device: Device, precision: ComputePrecision, memory_bytes: int | None = None
) -> MemoryPlan:
    """Return the plan for a model in `precision` (see `catalog/memory_fit.py`), on `memory_bytes` or what is free."""
    memory = available_bytes(device) if memory_bytes is None else memory_bytes
    usual, extremes = default_shape(manifest), extreme_shapes(manifest)
    placements = [placement_for(manifest, memory, precision, shape) for shape in extremes]
    stays = all(placement not in MOVING for placement in placements)
    # Blocks that stay make no room for a larger result: it is kept free of the text encoder from the start.
    worked = extremes if stays else [usual]
    working = max(activation_bytes(manifest, shape, precision) for shape in worked)
    whole_bytes = RESERVE_BYTES + working + (weights_bytes(manifest, precision) or 0)
    return MemoryPlan(
        model=manifest.name,
        precision=precision,
        memory_bytes=memory,
        placement=Placement.MAPPED if Placement.MAPPED in placements else placements[0],
        stays=stays,
        room=room_for_blocks(manifest, memory, precision, usual),
        working=working,
        whole=stays and (precision in CPU_PRECISIONS or whole_bytes <= memory),
        spare=memory - whole_bytes,
        text=manifest.costs.text_bytes,
        largest=largest_fitting(manifest, memory, precision),
    )


def make_room(
    weight_store: WeightStore,
    manifest: Manifest,
    device: Device,
    precision: ComputePrecision,
    plan: VideoPlan | ImagePlan,
    build_bytes: int = 0,
) -> bool:
    """Give blocks that can move as much of the device as this job leaves; between two jobs.

    `build_bytes` is what the build of a package needs while the job runs. Return whether that much is free for it.
    """
    if not build_bytes and not isinstance(weight_store, BlockSwap):
        return True
    memory = available_bytes(device) + weight_store.evictable_bytes
    room = room_for_blocks(manifest, memory, precision, plan.shape) - SCATTERED_BYTES - build_bytes
    if not isinstance(weight_store, BlockSwap):
        return room >= 0
    builds = room >= weight_store.least_bytes
    weight_store.resize(max(0, room if builds else room + build_bytes))
    log.info("%s: %s", manifest.name, weight_store.describe())
    if build_bytes and builds:
        device.free_memory()  # a build is another process, which cannot use what our allocator keeps
    return builds


def job_bytes(manifest: Manifest, precision: ComputePrecision, shape: Shape, *, blocks_move: bool) -> int:
    """Return what a result needs besides a loaded model's weights, and with all of its blocks if these can move."""
    working = activation_bytes(manifest, shape, precision)
    if not blocks_move:
        # A CUDA graph keeps separate memory for one more pass; only small passes are recorded.
        return working + min(working, GRAPHS_BYTES) + RESERVE_BYTES
    return working + RESERVE_BYTES + (denoiser_bytes(manifest, precision) or 0) + SCATTERED_BYTES
