"""The memory that is available on a device, and the refusal of jobs that do not fit."""

import torch

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import RESERVE_BYTES, misfit
from wan_mcp.engine.device.device import Device
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.host_memory import free_main_memory, main_memory
from wan_mcp.schema.enums import ComputePrecision
from wan_mcp.schema.plans import Plan

__all__ = ["available_bytes", "free_gpu_bytes", "has_room", "reachable_bytes", "require_fit"]


KEPT_FREE = 0.15
"""Share of a GPU's memory reserved for a job's computation."""


def has_room(needed: int, free: int, total: int) -> bool:
    """Check whether enough of a device's memory stays free after allocating `needed` more bytes."""
    return needed <= free - KEPT_FREE * total


def free_gpu_bytes(device: torch.device) -> int | None:
    """Return the bytes of a GPU that another process could allocate now; None for a CPU."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else None


def available_bytes(device: Device) -> int:
    """Return the bytes for one more model, including the reserve: free memory and our allocator's cache."""
    if not device.is_cuda:
        return free_main_memory()
    free, _ = torch.cuda.mem_get_info(device.torch)
    spare = torch.cuda.memory_reserved(device.torch) - torch.cuda.memory_allocated(device.torch)
    return int(free + spare) + RESERVE_BYTES // 2  # the CUDA context, about half of the reserve, is already allocated


def reachable_bytes(device: Device) -> int:
    """Return the bytes that a model could use if this process held no other model."""
    if not device.is_cuda:
        return main_memory()  # other processes' memory can be swapped out
    return available_bytes(device) + int(torch.cuda.memory_allocated(device.torch))


def require_fit(plan: Plan, manifest: Manifest, precision: ComputePrecision, memory_bytes: int) -> None:
    """Refuse a job before anything is loaded for it; never a caption, of which only the weights take memory.

    Raises:
        JobFailed: it has no room on a device of that memory; names the sizes and frame counts that have.
    """
    if plan.shape is not None and (why := misfit(manifest, memory_bytes, precision, plan.shape)) is not None:
        raise JobFailed("too_large_for_device", why)
