"""Running out of memory, as a job's failure with advice instead of an engine's end."""

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from wan_mcp.errors import JobFailed
from wan_mcp.manifests import Manifest
from wan_mcp.specs import CaptionPlan, Plan, VideoPlan

__all__ = ["advice", "is_out_of_memory", "memory_guard"]

log = logging.getLogger(__name__)

SAID_BY_OTHERS = (
    "not enough memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "out of memory",  # CUDA itself, where torch's allocator was not asked
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Where libraries give a RuntimeError for want of memory, some of these words are in it."""


@contextmanager
def memory_guard(plan: Plan, manifest: Manifest) -> Iterator[None]:
    """Turn running out of memory into the job's failure.

    Raises:
        JobFailed: memory ran out; says what smaller sizes the model has.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.warning("out of memory: %s", error)
        _clear_frames(error)
    else:
        return
    raise JobFailed("out_of_memory", advice(plan, manifest))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in SAID_BY_OTHERS)


def _clear_frames(error: BaseException) -> None:
    """Empty the frames that an error came through: they hold the very tensors that are too many."""
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__


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
