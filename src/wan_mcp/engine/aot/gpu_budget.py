"""What a process that builds a package may take of a GPU on which an engine works."""

import logging
import sys
from typing import Any

import torch

from wan_mcp.engine.aot.builder import NO_ROOM

__all__ = ["take_little_of"]

log = logging.getLogger(__name__)

BYTES = 2_000_000_000


def take_little_of(device: Any) -> None:
    """Take no more of a GPU than a job can spare, and leave with `NO_ROOM` where that is not free; make it current."""
    if device.type != "cuda":
        return
    torch.cuda.set_device(device)  # where Triton compiles and launches
    free, total = torch.cuda.mem_get_info(device)
    if free < BYTES:
        log.info("only %.1f GB of the GPU are free: a job may need them more", free / 1e9)
        sys.exit(NO_ROOM)
    torch.cuda.set_per_process_memory_fraction(min(BYTES / total, 1.0), device)
