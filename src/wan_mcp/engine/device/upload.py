"""Copies of weights from main memory to a GPU, through pinned memory and by several threads.

Weights that were just loaded are pages of mapped files. `Tensor.to` faults them in by one thread and copies them
through a small buffer of the driver. Here each thread fills a pinned buffer while the GPU copies its other one: an
expert of A14B, 28 GB of bf16, is converted in 2.5 s in place of 7 s (`benchmarks/results/first_minutes_uploads.json`).
"""

import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

__all__ = ["Uploader", "upload", "upload_module"]

log = logging.getLogger(__name__)
M = TypeVar("M", bound=nn.Module)

THREADS = 8
"""Threads that copy: more were not faster on hosts with 16 cores."""
BUFFER_BYTES = 16 << 20
"""Size of a pinned buffer; each thread has two."""
WORTHWHILE_BYTES = 1 << 20
"""Smaller tensors are copied by torch."""


class Uploader:
    """Threads with pinned buffers, for one GPU. One upload at a time."""

    def __init__(self, device: torch.device, threads: int = THREADS, buffer_bytes: int = BUFFER_BYTES) -> None:
        """Allocate nothing yet: each thread allocates its buffers when it copies for the first time."""
        self._device = device
        self._buffer_bytes = buffer_bytes
        self._pool = ThreadPoolExecutor(threads, "upload")
        self._lock = threading.Lock()
        self._own = threading.local()

    def upload(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the tensors on the GPU, by the same names; what is there already stays where it is.

        The copies are finished when this returns, so work in any stream can use them.
        """
        with self._lock:
            moved = {name: self._target(tensor) for name, tensor in tensors.items()}
            # The allocator may hand out memory that enqueued work of the current stream still reads.
            begin = self._event()
            pieces = [piece for name, target in moved.items() for piece in self._pieces(tensors[name], target)]
            events = [
                event for event in self._pool.map(lambda piece: self._copy(piece[0], piece[1], begin), pieces) if event
            ]
            for event in events:
                event.synchronize()
            return moved

    def _target(self, tensor: Tensor) -> Tensor:
        if not _is_worthwhile(tensor):
            return tensor.to(self._device)
        return torch.empty_like(tensor, device=self._device)

    def _pieces(self, source: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the parts of a tensor that fit into a buffer, as bytes: source, target."""
        if _is_worthwhile(source):
            parts = (whole.detach().view(-1).view(torch.uint8).split(self._buffer_bytes) for whole in (source, target))
            yield from zip(*parts, strict=True)

    def _copy(self, source: Tensor, target: Tensor, begin: Any) -> Any:
        """Copy some bytes; return an event after the copy."""
        staging = self._staging()
        buffer, copied = staging.next()
        if copied is not None:
            copied.synchronize()
        part = buffer[: len(source)]
        part.copy_(source)
        return staging.send(part, target, begin)

    def _staging(self) -> "_Staging":
        if not hasattr(self._own, "staging"):
            self._own.staging = _Staging(self._device, self._buffer_bytes)
        staging: _Staging = self._own.staging
        return staging

    def _event(self) -> Any:
        return torch.cuda.current_stream(self._device).record_event() if self._device.type == "cuda" else None


class _Staging:
    """A thread's two buffers and its stream. On a CPU, for tests, buffers are plain and copies are done at once."""

    def __init__(self, device: torch.device, size: int) -> None:
        self._is_cuda = device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(device) if self._is_cuda else None
        self._buffers = [torch.empty(size, dtype=torch.uint8, pin_memory=self._is_cuda) for _ in range(2)]
        self._copied: list[Any] = [None, None]
        self._turn = 0

    def next(self) -> tuple[Tensor, Any]:
        """Return the buffer whose turn it is, and the event after the last copy from it."""
        self._turn = 1 - self._turn
        return self._buffers[self._turn], self._copied[self._turn]

    def send(self, part: Tensor, target: Tensor, begin: Any) -> Any:
        """Enqueue the copy of that buffer's `part` after `begin`; return an event after it."""
        if not self._is_cuda:
            target.copy_(part)
            return None
        with torch.cuda.stream(self._stream):
            self._stream.wait_event(begin)
            target.copy_(part, non_blocking=True)
            self._copied[self._turn] = self._stream.record_event()
        return self._copied[self._turn]


def _is_worthwhile(tensor: Tensor) -> bool:
    """Check whether a tensor is a large, plain one in main memory; subclasses store their data in other ways."""
    plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided and tensor.is_contiguous()
    return plain and tensor.device.type == "cpu" and tensor.nbytes >= WORTHWHILE_BYTES


@lru_cache(maxsize=8)
def _uploader(device: torch.device) -> Uploader:
    return Uploader(device)


def upload(tensors: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Return the tensors on `device`, by the same names."""
    if device.type != "cuda":
        return {name: tensor.to(device) for name, tensor in tensors.items()}
    return _uploader(device).upload(tensors)


@torch.no_grad()
def upload_module(module: M, device: torch.device) -> M:
    """Move a module to `device`, as `module.to(device)` does, and return it."""
    if device.type == "cuda":
        large = {name: tensor for name, tensor in _tensors(module) if _is_worthwhile(tensor)}
        for name, moved in upload(large, device).items():
            large[name].data = moved  # in place, so that tensors with two names stay one
    module.to(device)
    return module


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
