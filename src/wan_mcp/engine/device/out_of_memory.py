"""Out-of-memory errors as a job's failure with advice, instead of a crash of the engine."""

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
    "out of memory",  # CUDA itself, for allocations outside torch's allocator
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
"""Phrases in the RuntimeErrors that libraries raise if memory runs out."""


@dataclass
class MemoryGuard:
    """Context manager that turns out-of-memory errors into the job's failure, and frees the job's tensors.

    Raises:
        JobFailed: memory ran out; the message lists the model's smaller sizes.
    """

    plan: Plan
    manifest: Manifest

    def __enter__(self) -> None:
        """Start guarding."""

    def __exit__(self, _: object, error: BaseException | None, trace: object) -> None:
        """Convert the error. Not a generator, whose frame would keep all others alive as long as the failure exists."""
        del trace
        if error is not None and is_out_of_memory(error):
            log.warning("out of memory: %s", str(error))  # as text: an error in a log record would keep tensors alive
            _let_go(error)
            raise JobFailed("out_of_memory", advice(self.plan, self.manifest))


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that the device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OOM_MESSAGES)


def _let_go(error: BaseException) -> None:
    """Clear the frames of an error's traceback and drop them: they reference the tensors that fill the memory.

    A frame whose function called `locals()`, as diffusers pipelines do, keeps a copy of them when it is cleared.
    """
    found: BaseException | None = error
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found.__traceback__ = None
        found = found.__cause__ or found.__context__


def advice(plan: Plan, manifest: Manifest) -> str:
    """Return a message about what ran out of memory, with the model's smaller sizes."""
    if plan.shape is None:
        return f"Memory ran out while '{plan.model}' read the image. Free some memory, or use a smaller model."
    offer = offer_sizes(manifest, smaller_sizes(manifest, plan.shape))
    return f"Memory ran out at {plan.shape}. {offer} The engine continues with the next job."
