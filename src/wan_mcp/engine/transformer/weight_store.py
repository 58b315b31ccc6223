"""Where the blocks of denoisers live while they run: simply on the device, or elsewhere (`streamed`)."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from wan_mcp.engine.transformer.weights import BlockWeights

__all__ = ["Item", "ResidentWeights", "WeightStore"]

Item = tuple[int, int]
"""A block: its denoiser's number, and its own."""


class WeightStore(Protocol):
    """Where blocks live, and what brings their tensors to the device that computes.

    All denoisers of a model share one: `place` each block as it is made, `add` each denoiser, in the order in which
    they run.
    """

    home: torch.device
    """Where blocks are best read to."""

    @property
    def evictable_bytes(self) -> int:
        """What of the device blocks take that they could do without."""

    def place(self, weights: BlockWeights) -> BlockWeights:
        """A block's tensors where they will live. Can be called from several threads."""

    def add(self, blocks: Sequence[BlockWeights]) -> int:
        """Take in the settled blocks of one more denoiser; gives its number."""

    def drop(self, denoiser: int) -> None:
        """Hold a denoiser's blocks no longer; it cannot run until `replace` gives it others."""

    def replace(self, denoiser: int, blocks: Sequence[BlockWeights]) -> None:
        """Take in other settled blocks of the same kinds in place of a denoiser's, between two passes."""

    def get(self, item: Item) -> list[Tensor]:
        """The tensors of `run_block` on the device, for work that is asked for before the next call."""

    def get_context(self, item: Item) -> list[Tensor]:
        """The tensors of `context_keys_values` on the device."""

    def announce(self, passes: Sequence[int]) -> None:
        """Say which denoisers run in the coming passes, by their numbers; what is wrong in it only costs time."""

    def evict(self) -> None:
        """Give the device's memory back, where the blocks can come again."""


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
