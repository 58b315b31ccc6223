"""The interface to blocks' weights at run time, resident on the device or streamed (`offload.block_swap`)."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wan_mcp.engine.transformer.weights import BlockWeights

__all__ = ["Item", "ResidentWeights", "WeightStore"]

Item = tuple[int, int]
"""A block: its denoiser's index, and its own."""


class WeightStore(Protocol):
    """The storage of blocks, which also brings their tensors to the compute device.

    All denoisers of a model share one store: `place` each block when it is created, and `add` each denoiser, in the
    order in which they run.
    """

    home: torch.device
    """The device that blocks should be read to."""

    @property
    def evictable_bytes(self) -> int:
        """Return the bytes of device memory held by blocks that could be freed."""

    def place(self, weights: BlockWeights) -> BlockWeights:
        """Return a block's tensors, moved to their storage. Thread-safe."""

    def add(self, blocks: Sequence[BlockWeights]) -> int:
        """Add the placed blocks of another denoiser and return its index."""

    def drop(self, denoiser: int) -> None:
        """Release a denoiser's blocks; it cannot run until `replace` sets others."""

    def replace(self, denoiser: int, blocks: Sequence[BlockWeights]) -> None:
        """Replace a denoiser's blocks by other placed blocks of the same kinds, between two passes."""

    def get(self, item: Item) -> list[Tensor]:
        """Return the tensors of `run_block` on the device, valid for work enqueued before the next call."""

    def get_context(self, item: Item) -> list[Tensor]:
        """Return the tensors of `context_keys_values` on the device."""

    def announce(self, passes: Sequence[int]) -> None:
        """Announce the denoisers of the next passes, by index; mistakes only cost time."""

    def evict(self) -> None:
        """Free the device's memory, if the blocks can be loaded again."""

    def shrink(self) -> bool:
        """Free the device's memory and use less of it from now on; return false if that is not possible."""


class ResidentWeights:
    """Blocks that stay on the device."""

    def __init__(self, home: torch.device) -> None:
        self.home = home
        self._denoisers: list[list[BlockWeights]] = []

    @property
    def evictable_bytes(self) -> int:
        return 0

    def place(self, weights: BlockWeights) -> BlockWeights:
        return weights

    def add(self, blocks: Sequence[BlockWeights]) -> int:
        self._denoisers.append(list(blocks))
        return len(self._denoisers) - 1

    def drop(self, denoiser: int) -> None:
        self._denoisers[denoiser] = []

    def replace(self, denoiser: int, blocks: Sequence[BlockWeights]) -> None:
        self._denoisers[denoiser] = list(blocks)

    def get(self, item: Item) -> list[Tensor]:
        denoiser, block = item
        return self._denoisers[denoiser][block].of_block

    def get_context(self, item: Item) -> list[Tensor]:
        denoiser, block = item
        return self._denoisers[denoiser][block].of_text

    def announce(self, passes: Sequence[int]) -> None:
        pass

    def evict(self) -> None:
        pass

    def shrink(self) -> bool:
        return False
