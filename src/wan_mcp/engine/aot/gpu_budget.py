"""The memory limit of a build process on a GPU that an engine uses."""

import logging
import sys
from typing import Any

import torch

from wan_mcp.engine.aot.builder import EXIT_NO_MEMORY, GPU_BYTES
from wan_mcp.text import in_bytes

__all__ = ["limit_gpu_memory"]

log = logging.getLogger(__name__)


def limit_gpu_memory(device: Any) -> None:
    """Limit this process to the GPU memory that a job can spare, and make the GPU current; exit if it is not free."""
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)  # Triton compiles and launches on the current device
    free, total = torch.cuda.mem_get_info(device)
    if free < GPU_BYTES:
        log.info("only %s of GPU memory are free, and a job may need them", in_bytes(free))
        sys.exit(EXIT_NO_MEMORY)
    torch.cuda.set_per_process_memory_fraction(min(GPU_BYTES / total, 1.0), device)
