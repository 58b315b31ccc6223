"""Out-of-memory errors as a job's failure with advice, instead of a crash of the engine."""

import errno
import gc
import logging
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import offer_sizes, smaller_sizes
from wan_mcp.engine.device.device import Device
from wan_mcp.errors import JobFailed
from wan_mcp.schema.plans import Plan
from wan_mcp.text import first_line

__all__ = ["MemoryGuard", "advice", "is_out_of_memory", "release_tensors", "retry_with_less"]

log = logging.getLogger(__name__)
T = TypeVar("T")

OOM_MESSAGES = re.compile(
    "not enough memory"
    "|can't allocate memory|DefaultCPUAllocator"
    "|Cannot allocate memory"  # the system, as libraries quote it
    "|bad_alloc"  # C++
    "|could not create a (primitive|memory object)(?! descriptor)|could not execute a primitive"  # oneDNN
    "|out of memory"  # CUDA itself, for allocations outside torch's allocator
    "|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED"
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
            release_tensors(error)
            raise JobFailed("out_of_memory", advice(self.plan, self.manifest))


def is_out_of_memory(error: BaseException) -> bool:
    """Check whether an error means that the device or the host ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):  # of a process that could not be started, for example
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and OOM_MESSAGES.search(str(error)) is not None


def retry_with_less(work: Callable[[], T], give_way: Callable[[], bool], device: Device) -> T:
    """Return the result of `work`; each time that memory runs out, it runs again after `give_way` has freed some.

    A manifest's figures are estimates, and other processes use a GPU as well: a job that fits must not fail for them.
    Where weights are changes no bits of a result, so neither does this.

    Raises:
        As `work`; also when memory ran out and `give_way` returned false: nothing on the device can give way any more.
    """
    while True:
        try:
            return work()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            failure = error
        log.warning("out of memory, trying again with less on the device: %s", first_line(failure))
        release_tensors(failure)
        if not give_way():
            raise failure
        gc.collect()
        device.free_memory()


def release_tensors(error: BaseException) -> None:
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
