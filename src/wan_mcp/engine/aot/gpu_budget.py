"""What a process that builds a package may take of a GPU on which an engine works."""

import logging
import sys
from typing import Any

import torch

from wan_mcp.engine.aot.builder import EXIT_NO_MEMORY
from wan_mcp.text import in_bytes

__all__ = ["limit_gpu_memory"]

log = logging.getLogger(__name__)

BYTES = 2_000_000_000


def limit_gpu_memory(device: Any) -> None:
    """Limit this process to what a job can spare of a GPU, and make the GPU current; exit if that is not free."""
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)  # where Triton compiles and launches
    free, total = torch.cuda.mem_get_info(device)
    if free < BYTES:
        log.info("only %s of the GPU are free: a job may need them more", in_bytes(free))
        sys.exit(EXIT_NO_MEMORY)
    torch.cuda.set_per_process_memory_fraction(min(BYTES / total, 1.0), device)
