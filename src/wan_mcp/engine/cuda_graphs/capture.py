"""Capture of work as CUDA graphs that share one memory pool."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.cuda_graphs.graphs import GraphCapture

__all__ = ["CudaGraphCapture", "graph_capture_for"]

_ABANDONED: list[Any] = []
"""Graphs whose capture failed: the pinned-memory allocator still queries their capture status."""


def graph_capture_for(device: Any) -> GraphCapture | None:
    """Return the graph capture for a `torch.device`, or None if it has none."""
    return CudaGraphCapture(device) if device.type == "cuda" else None


@cache
def _stream(device: Any) -> Any:
    """Return the stream of all captures: a single one, because libraries keep memory for each stream they have used."""
    return torch.cuda.Stream(device)


class CapturedCudaGraph:
    """A captured graph; it is replayed in the current stream."""

    def __init__(self, graph: Any, output: Tensor) -> None:
        self._graph = graph
        self.output = output

    def replay(self) -> None:
        self._graph.replay()

    def forget(self) -> None:
        self._graph.reset()
        del self.output


class CudaGraphCapture:
    """Graph capture on one device.

    It does not use `torch.cuda.graph`, which first empties the allocator's cache (the next stage would have to fill it
    again) and does not restore the current stream if a capture fails.
    """

    def __init__(self, device: Any) -> None:
        self.works = True
        self._device = device
        self._pool: Any = None

    def record(self, work: Callable[[], Tensor]) -> CapturedCudaGraph:
        """Capture the work.

        Raises:
            torch.OutOfMemoryError: there is not enough memory for its results.
            RuntimeError: the work cannot be captured. The device remains usable.
        """
        with torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.MemPool()
            with _without_workspaces(), _collecting_later(), torch.cuda.stream(_stream(self._device)):
                return self._captured(work)

    def close(self) -> None:
        self._pool = None  # its memory is freed on the device, not kept in the allocator's cache

    def _captured(self, work: Callable[[], Tensor]) -> CapturedCudaGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may copy during the capture: one of them writes converted weights.
            graph.capture_begin(self._pool.id, capture_error_mode="thread_local")
            output = work()
            graph.capture_end()
        except BaseException:
            self._abandon(graph)
            raise
        return CapturedCudaGraph(graph, output)

    def _abandon(self, graph: Any) -> None:
        """Restore the stream, the allocator and the generators to their state before the capture."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(RuntimeError):  # it may raise before it notifies the allocator, so this does
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool.id)
        try:
            graph.pool()  # exists only after a successful capture
        except RuntimeError:
            with suppress(RuntimeError):
                torch._C._cuda_releasePool(self._device.index, self._pool.id)
            _ABANDONED.append(graph)
        else:
            graph.reset()
        number = None
        with suppress(RuntimeError):  # clear a pending error by launching a kernel
            number = torch.zeros(1, device=self._device)
        if number is not None:
            with suppress(RuntimeError):  # generators only learn from the end of a capture that it is over
                again = torch.cuda.CUDAGraph()
                again.capture_begin(capture_error_mode="thread_local")
                number.zero_()
                again.capture_end()
                again.reset()


@contextmanager
def _without_workspaces() -> Iterator[None]:
    """Make cuBLAS allocate its workspace in the graph's memory pool, and drop it afterwards."""
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


@contextmanager
def _collecting_later() -> Iterator[None]:
    """Disable the garbage collector: it could free objects whose deletion is forbidden during a capture."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
