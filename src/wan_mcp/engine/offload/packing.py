"""The layout of a block's tensors in one buffer, so that a single copy moves all of them."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from wan_mcp.engine.transformer.block import weight_names
from wan_mcp.engine.transformer.weights import BlockWeights, text_names

__all__ = ["BlockLayout"]

ALIGNMENT = 256
"""Bytes. Matrix products need 16; CUDA's own allocations start at multiples of 256."""


@dataclass(frozen=True)
class TensorSlot:
    """One tensor's place in the buffer."""

    name: str
    dtype: torch.dtype
    shape: torch.Size
    offset: int

    def view(self, buffer: Tensor) -> Tensor:
        """Return the tensor as a view of a buffer of bytes."""
        size = math.prod(self.shape) * self.dtype.itemsize
        return buffer[self.offset : self.offset + size].view(self.dtype).view(self.shape)


@dataclass(frozen=True)
class BlockLayout:
    """The slots of a block's tensors: first those for every step, then those for a new text."""

    of_block: tuple[TensorSlot, ...]
    of_text: tuple[TensorSlot, ...]
    step_bytes: int
    """Size of the tensors for every step."""
    bytes: int
    """Size of all tensors."""

    @classmethod
    def of(cls, weights: BlockWeights) -> "BlockLayout":
        """Return the layout for these tensors; it is the same for all blocks of a kind."""
        end = 0

        def placed(names: list[str]) -> tuple[TensorSlot, ...]:
            nonlocal end
            places = []
            for name in names:
                tensor = weights.tensors[name]
                places.append(TensorSlot(name, tensor.dtype, tensor.shape, end))
                end += math.ceil(tensor.nbytes / ALIGNMENT) * ALIGNMENT
            return tuple(places)

        of_block = placed(weight_names(weights.kind))
        step_bytes = end
        return cls(of_block, placed(text_names(weights.kind)), step_bytes, end)

    def views(self, buffer: Tensor) -> list[Tensor]:
        """Return the tensors for every step in a buffer of at least `step_bytes`, in the order of `weight_names`."""
        return [place.view(buffer) for place in self.of_block]

    def all_views(self, buffer: Tensor) -> dict[str, Tensor]:
        """Return all tensors in a buffer of `bytes`, by name."""
        return {place.name: place.view(buffer) for place in (*self.of_block, *self.of_text)}
