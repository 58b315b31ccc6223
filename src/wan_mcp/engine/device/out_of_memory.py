"""Running out of memory, as a job's failure with advice instead of an engine's end."""

import logging
import traceback
from dataclasses import dataclass

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import offer_sizes, smaller_sizes
from wan_mcp.errors import JobFailed
from wan_mcp.schema.plans import Plan

__all__ = ["MemoryGuard", "advice", "is_out_of_memory"]

log = logging.getLogger(__name__)

OOM_MESSAGES = (
    "not enough memory",
    "can't allocate memory",
    "DefaultCPUAllocator",
    "out of memory",  # CUDA itself, where torch's allocator was not asked
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Where libraries give a RuntimeError for want of memory, some of these words are in it."""


@dataclass
class MemoryGuard:
    """Turns running out of memory into the job's failure, and lets go of what the job had made.

    Raises:
        JobFailed: memory ran out; says what smaller sizes the model has.
    """

    plan: Plan
    manifest: Manifest

    def __enter__(self) -> None:
        """Guard the work on this plan."""

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        """Not written as a generator: as long as there is the failure, its frames would hold all others."""
        del trace
        if error is not None and is_out_of_memory(error):
            log.warning("out of memory: %s", str(error))  # not the error: who keeps records would keep tensors
            _let_go(error)
            raise JobFailed("out_of_memory", advice(self.plan, self.manifest))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that there was not enough memory, on the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OOM_MESSAGES)


def _let_go(error: BaseException) -> None:
    """Empty the frames that an error came through, and forget them: they hold the very tensors that are too many.

    A frame whose function has called `locals()`, as pipelines of diffusers do, keeps a copy of them when it is emptied.
    """
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found.__traceback__ = None
        found = found.__cause__ or found.__context__


def advice(plan: Plan, manifest: Manifest) -> str:
    """What ran out of memory, and what smaller things the model can do."""
    if plan.shape is None:
        return f"Memory ran out while '{plan.model}' read the picture. Free some memory, or use a smaller model."
    offer = offer_sizes(manifest, smaller_sizes(manifest, plan.shape))
    return f"Memory ran out at {plan.shape}. {offer} The engine goes on with the next job."
