"""Frames in strips that are decoded apart: each reads a little of its neighbours, and the pixels are the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

__all__ = ["Strip", "strips"]


@dataclass(frozen=True)
class Strip:
    """Some rows or columns of each frame; numbers are latent pixels."""

    dim: int
    """1 for rows, 2 for columns, of (frames, height, width, channels)."""
    start: int
    """The first that is read."""
    stop: int
    """The end of those that are read."""
    first: int
    """The first that is kept."""
    last: int
    """The end of those that are kept."""

    @property
    def width(self) -> int:
        """Return the number that are kept."""
        return self.last - self.first

    def read(self, latents: Tensor) -> Tensor:
        """Return what is read of whole frames."""
        return latents.narrow(self.dim, self.start, self.stop - self.start)

    def keep(self, pixels: Tensor) -> Tensor:
        """Return the pixels that are kept of those that were read."""
        scale = pixels.shape[self.dim] // (self.stop - self.start)
        return pixels.narrow(self.dim, (self.first - self.start) * scale, self.width * scale)


def strips(height: int, width: int, reach: int, count: int) -> Sequence[Strip]:
    """Divide frames of `height` x `width` latent pixels into `count` strips along the longer side, equal but for one.

    Args:
        height: of the latents.
        width: of the latents.
        reach: how far a pixel reads on each side.
        count: how many strips.

    Returns:
        The strips in their order; none if one of them would read whole frames.
    """
    dim, size = (2, width) if width >= height else (1, height)
    edges = [size * number // count for number in range(count + 1)]
    found = [Strip(dim, max(0, first - reach), min(size, last + reach), first, last) for first, last in pairwise(edges)]
    return [] if any(strip.stop - strip.start == size for strip in found) else found
