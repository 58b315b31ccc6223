"""A compute stream and a copy stream for streamed blocks, ordered by events."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CopyStreams", "CudaStreams"]

Event = Any
"""A point in a stream that the other stream can wait for."""


class CopyStreams(Protocol):
    """The streams of a device. Only `synchronize_copies` waits for the device."""

    def allocate(self, size: int) -> Tensor:
        """Allocate `size` bytes on the device; the compute stream may have used them before."""

    def record_compute(self) -> Event:
        """Record an event after all work enqueued in the compute stream."""

    def copy(self, pairs: Sequence[tuple[Tensor, Tensor]], after: Event | None) -> Event:
        """Enqueue copies, (destination, source) each, after the event `after`; return an event after them."""

    def wait_for_copy(self, mark: Event) -> None:
        """Make later work in the compute stream wait for this event of the copy stream."""

    def synchronize_copies(self) -> None:
        """Wait until all copies are done."""


class CudaStreams:
    """The current stream computes, and a separate stream copies.

    A copy from pinned memory overlaps with kernels; a copy from other memory blocks the caller.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._copies: Any = torch.cuda.Stream(device)

    def allocate(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, device=self._device)

    def record_compute(self) -> Event:
        return torch.cuda.current_stream(self._device).record_event()

    def copy(self, pairs: Sequence[tuple[Tensor, Tensor]], after: Event | None) -> Event:
        if after is not None:
            self._copies.wait_event(after)
        with torch.cuda.stream(self._copies):
            for target, source in pairs:
                target.copy_(source, non_blocking=True)
        return self._copies.record_event()

    def wait_for_copy(self, mark: Event) -> None:
        torch.cuda.current_stream(self._device).wait_event(mark)

    def synchronize_copies(self) -> None:
        self._copies.synchronize()
