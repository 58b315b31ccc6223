"""The two queues of a device that streamed blocks need: one computes, the other copies, and marks order them."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["CopyStreams", "CudaStreams"]

Event = Any
"""A point in a queue that the other queue can wait for."""


class CopyStreams(Protocol):
    """What moves blocks to a device. No call waits for the device but `synchronize_copies`."""

    def allocate(self, size: int) -> Tensor:
        """`size` bytes on the device, which the computing queue may have used before."""

    def record_compute(self) -> Event:
        """A mark behind all that has been asked of the computing queue."""

    def copy(self, pairs: Sequence[tuple[Tensor, Tensor]], after: Event | None) -> Event:
        """Ask for copies, (to, from) each, that begin behind the mark `after`; a mark behind them."""

    def wait_for_copy(self, mark: Event) -> None:
        """Let what is asked of the computing queue from now on begin behind this mark of the copying one."""

    def synchronize_copies(self) -> None:
        """Wait until all copies are done."""


class CudaStreams:
    """The current stream computes, a stream of our own copies.

    A copy from pinned memory runs beside the kernels; one from other memory keeps the caller waiting.
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
