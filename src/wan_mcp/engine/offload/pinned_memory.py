"""The home of streamed blocks: host memory, each block in one piece, pinned as far as the machine can spare it.

Pinned memory is what a GPU reads by itself, beside its work. The pages are our own and registered with the driver:
torch's allocator for pinned memory rounds to powers of two, which would take half as much again for blocks of 14B.
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
"""Share of the machine's memory that is left to everything else; pinned pages cannot be swapped out."""
PORTABLE = 1
"""cudaHostRegisterPortable: pinned for every device."""


class PinnedBuffer(mmap.mmap):
    """Memory in pages of its own (two registrations must not share one), given back when no tensor needs it."""

    ends: tuple[Callable[[], None], ...] = ()
    """What happens before that."""

    @classmethod
    def of(cls, size: int) -> "PinnedBuffer":
        """`size` bytes of zeros."""
        pages = cls(-1, size)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with suppress(OSError):  # a kernel without them
                pages.madvise(mmap.MADV_HUGEPAGE)
        return pages

    def __del__(self) -> None:
        for end in self.ends:
            with suppress(Exception):  # at the interpreter's end CUDA may be gone
                end()


Pin = Callable[[PinnedBuffer], bool]
"""Pins pages; False where that is refused."""


class PackedWeights(BlockWeights):
    """A block's tensors as parts of one buffer of host memory."""

    def __init__(self, weights: BlockWeights, layout: BlockLayout, buffer: Tensor) -> None:
        """Copies the tensors of `weights` into `buffer`."""
        super().__init__(weights.kind, layout.all_views(buffer))
        self.layout = layout
        self.buffer = buffer
        for name, tensor in weights.tensors.items():
            self.tensors[name].copy_(tensor)


class PinnedPool:
    """The blocks of one model in host memory; it can be used from several threads."""

    def __init__(self, limit: int, pin: Pin) -> None:
        """`limit` is how many bytes may be pinned; what is beyond stays in ordinary memory."""
        self._limit = limit
        self._pin = pin
        self._lock = threading.RLock()  # pages may be let go by the collector while it is held
        self.pinned_bytes = 0
        self.unpinned_bytes = 0

    def take(self, weights: BlockWeights) -> BlockWeights:
        """A block's tensors in host memory: packed and pinned, or simply on the CPU.

        The latter may still be pages of a file, which the system can drop and read again.
        """
        layout = BlockLayout.of(weights)
        pages = self._pinned(layout.bytes)
        if pages is not None:
            return PackedWeights(weights, layout, torch.frombuffer(pages, dtype=torch.uint8))
        if not self.unpinned_bytes:
            log.warning("%s of host memory are pinned, no more can be: copies slow down", in_bytes(self.pinned_bytes))
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
    """What registers pages with CUDA until they are let go."""
    cudart: Any = torch.cuda.cudart()

    def pin(pages: PinnedBuffer) -> bool:
        address = torch.frombuffer(pages, dtype=torch.uint8).data_ptr()
        with torch.cuda.device(device):
            if int(cudart.cudaHostRegister(address, len(pages), PORTABLE)) != 0:
                with suppress(RuntimeError):  # CUDA tells of the refusal once more at the next kernel
                    torch.zeros(1, device=device)
                return False

        def unpin() -> None:
            torch.cuda.synchronize(device)  # a copy may still read them
            cudart.cudaHostUnregister(address)

        pages.ends += (unpin,)
        return True

    return pin


def pinnable_bytes() -> int:
    """Bytes of host memory that may be pinned now."""
    return max(free_main_memory() - int(KEPT_FREE * main_memory()), 0)
