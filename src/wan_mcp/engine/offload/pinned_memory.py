"""Host memory of streamed blocks: each block contiguous, pinned as far as the machine can spare the memory.

A GPU copies from pinned memory by itself, in parallel with its kernels. We allocate the pages and register them with
the driver, because torch's pinned-memory allocator rounds to powers of two: 50 % more memory for blocks of 14B.
"""

import logging
import mmap
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.offload.packing import BlockLayout
from wan_mcp.engine.transformer.weights import BlockWeights
from wan_mcp.hardware.host_memory import free_main_memory, main_memory
from wan_mcp.text import in_bytes

__all__ = ["PackedWeights", "PinnedBuffer", "PinnedPool", "cuda_pin", "pinnable_bytes"]

log = logging.getLogger(__name__)

KEPT_FREE = 0.2
"""Share of the machine's memory reserved for everything else; pinned pages cannot be swapped out."""
PORTABLE = 1
"""cudaHostRegisterPortable: pinned for every device."""


class PinnedBuffer(mmap.mmap):
    """Memory in separate pages (two registrations must not share one), freed when no tensor uses it."""

    ends: tuple[Callable[[], None], ...] = ()
    """Called before the memory is freed."""

    @classmethod
    def of(cls, size: int) -> "PinnedBuffer":
        """Allocate `size` bytes of zeros."""
        pages = cls(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a Linux kernel without huge pages
                pages.madvise(mmap.MADV_HUGEPAGE)
        return pages

    def __del__(self) -> None:
        for end in self.ends:
            with suppress(Exception):  # at interpreter exit CUDA may be shut down already
                end()


Pin = Callable[[PinnedBuffer], bool]
"""Pins pages; returns false if the driver refuses."""


class PackedWeights(BlockWeights):
    """A block's tensors as views of one buffer in host memory."""

    def __init__(self, weights: BlockWeights, layout: BlockLayout, buffer: Tensor) -> None:
        """Copy the tensors of `weights` into `buffer`."""
        super().__init__(weights.kind, layout.all_views(buffer))
        self.layout = layout
        self.buffer = buffer
        for name, tensor in weights.tensors.items():
            self.tensors[name].copy_(tensor)


class PinnedPool:
    """The blocks of one model in host memory. Thread-safe."""

    def __init__(self, limit: int, pin: Pin) -> None:
        """Start empty; at most `limit` bytes are pinned, the rest is in ordinary memory."""
        self._limit = limit
        self._pin = pin
        self._lock = threading.RLock()  # reentrant: the garbage collector may free pages while it is held
        self.pinned_bytes = 0
        self.unpinned_bytes = 0

    def take(self, weights: BlockWeights) -> BlockWeights:
        """Return a block's tensors in host memory: packed and pinned, or simply on the CPU.

        The latter may be pages of a mapped file, which the system can drop and read again.
        """
        layout = BlockLayout.of(weights)
        pages = self._pinned(layout.bytes)
        if pages is not None:
            return PackedWeights(weights, layout, torch.frombuffer(pages, dtype=torch.uint8))
        if not self.unpinned_bytes:
            log.warning(
                "%s of host memory are pinned, no more can be: other copies are slower", in_bytes(self.pinned_bytes)
            )
        self.unpinned_bytes += layout.bytes
        return BlockWeights(weights.kind, {name: tensor.cpu() for name, tensor in weights.tensors.items()})

    def _pinned(self, size: int) -> PinnedBuffer | None:
        with self._lock:
            if self.pinned_bytes + size > self._limit:
                return None
            self.pinned_bytes += size
        pages = PinnedBuffer.of(size)
        pages.ends += (lambda: self._give_back(size),)
        return pages if self._pin(pages) else None

    def _give_back(self, size: int) -> None:
        with self._lock:
            self.pinned_bytes -= size


def cuda_pin(device: torch.device) -> Pin:
    """Return a function that registers pages with CUDA until they are freed."""
    cudart: Any = torch.cuda.cudart()

    def pin(pages: PinnedBuffer) -> bool:
        address = torch.frombuffer(pages, dtype=torch.uint8).data_ptr()
        with torch.cuda.device(device):
            if int(cudart.cudaHostRegister(address, len(pages), PORTABLE)) != 0:
                with suppress(RuntimeError):  # clear the error, or CUDA reports it again at the next kernel
                    torch.zeros(1, device=device)
                return False

        def unpin() -> None:
            torch.cuda.synchronize(device)  # a copy may still read them
            cudart.cudaHostUnregister(address)

        pages.ends += (unpin,)
        return True

    return pin


def pinnable_bytes() -> int:
    """Return the bytes of host memory that may be pinned now."""
    return max(free_main_memory() - int(KEPT_FREE * main_memory()), 0)
