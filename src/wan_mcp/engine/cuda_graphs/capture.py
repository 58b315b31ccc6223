"""Records work as CUDA graphs that share one pool of memory."""

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
"""Graphs whose capture did not end: the allocator of pinned memory still asks them whether it has."""


def graph_capture_for(device: Any) -> GraphCapture | None:
    """What records on a `torch.device`; None where nothing does."""
    return CudaGraphCapture(device) if device.type == "cuda" else None


@cache
def _stream(device: Any) -> Any:
    """The stream of all captures: one, for libraries keep memory for each stream that they have seen."""
    return torch.cuda.Stream(device)


class CapturedCudaGraph:
    """A captured graph; it replays in the current stream."""

    def __init__(self, graph: Any, output: Tensor) -> None:
        self._graph = graph
        self.output = output

    def replay(self) -> None:
        self._graph.replay()

    def forget(self) -> None:
        self._graph.reset()
        del self.output


class CudaGraphCapture:
    """Captures on one device.

    Not by `torch.cuda.graph`, which first empties the allocator's cache (the next stage would have to fill it again)
    and stays in the stream of a capture that fails.
    """

    def __init__(self, device: Any) -> None:
        self.works = True
        self._device = device
        self._pool: Any = None

    def record(self, work: Callable[[], Tensor]) -> CapturedCudaGraph:
        """Capture the work.

        Raises:
            torch.OutOfMemoryError: there is no room for what it makes.
            RuntimeError: some of it cannot be captured. The device works on as before.
        """
        with torch.cuda.device(self._device):
            if self._pool is None:
                self._pool = torch.cuda.MemPool()
            with _without_workspaces(), _collecting_later(), torch.cuda.stream(_stream(self._device)):
                return self._captured(work)

    def close(self) -> None:
        self._pool = None  # what is in it goes back to the device, beside the allocator's cache

    def _captured(self, work: Callable[[], Tensor]) -> CapturedCudaGraph:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads copy as they like meanwhile: converted weights are written by one.
            graph.capture_begin(self._pool.id, capture_error_mode="thread_local")
            output = work()
            graph.capture_end()
        except BaseException:
            self._abandon(graph)
            raise
        return CapturedCudaGraph(graph, output)

    def _abandon(self, graph: Any) -> None:
        """Have the stream, the allocator and the generators be as if there had been no capture."""
        with suppress(RuntimeError):
            graph.capture_end()
        with suppress(RuntimeError):  # it raises before it tells the allocator, and if not, this does
            torch._C._cuda_endAllocateToPool(self._device.index, self._pool.id)
        try:
            graph.pool()  # which only a capture that ended well has
        except RuntimeError:
            with suppress(RuntimeError):
                torch._C._cuda_releasePool(self._device.index, self._pool.id)
            _ABANDONED.append(graph)
        else:
            graph.reset()
        number = None
        with suppress(RuntimeError):  # an error that nobody has asked for yet is taken off by the next launch
            number = torch.zeros(1, device=self._device)
        if number is not None:
            with suppress(RuntimeError):  # only the end of a capture tells the generators that none is under way
                again = torch.cuda.CUDAGraph()
                again.capture_begin(capture_error_mode="thread_local")
                number.zero_()
                again.capture_end()
                again.reset()


@contextmanager
def _without_workspaces() -> Iterator[None]:
    """Have cuBLAS take its workspace from the recording's memory, and hold on to no part of that."""
    torch._C._cuda_clearCublasWorkspaces()
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


@contextmanager
def _collecting_later() -> Iterator[None]:
    """What the garbage collector may free at any moment could be what a capture forbids."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
