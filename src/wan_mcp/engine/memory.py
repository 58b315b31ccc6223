"""Running out of memory, as a job's failure with advice instead of an engine's end."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wan_mcp.errors import JobFailed
from wan_mcp.manifests import Manifest
from wan_mcp.specs import CaptionPlan, Plan, VideoPlan

__all__ = ["advice", "memory_guard"]

CPU_ALLOCATOR = ("not enough memory", "can't allocate memory", "DefaultCPUAllocator")


@contextmanager
def memory_guard(plan: Plan, manifest: Manifest) -> Iterator[None]:
    """Turn running out of memory into the job's failure.

    Raises:
        JobFailed: memory ran out; says what smaller sizes the model has.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        traceback.clear_frames(error.__traceback__)  # they hold the very tensors that are too many
    else:
        return
    raise JobFailed("out_of_memory", advice(plan, manifest))


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return any(words in str(error) for words in CPU_ALLOCATOR)


def advice(plan: Plan, manifest: Manifest) -> str:
    """What ran out of memory, and what smaller things the model can do."""
    if isinstance(plan, CaptionPlan):
        return f"Memory ran out while '{plan.model}' read the picture. Free some memory, or use a smaller model."
    what = f"{plan.width}x{plan.height}"
    ways = []
    if manifest.sizes is not None:
        area = plan.width * plan.height
        smaller = [f"{r.name} ({r.width}x{r.height})" for r in manifest.sizes.named if r.width * r.height < area]
        if smaller:
            ways.append(f"a smaller resolution: {', '.join(smaller)}")
    if isinstance(plan, VideoPlan):
        what += f" with {plan.num_frames} frames"
        if manifest.frames is not None and (fewer := manifest.frames.nearest(plan.num_frames / 2)) < plan.num_frames:
            ways.append(f"fewer frames: {fewer} instead of {plan.num_frames}")
    ways.append("another model")
    return f"Memory ran out at {what}. Try {'; or '.join(ways)}. The engine goes on with the next job."
