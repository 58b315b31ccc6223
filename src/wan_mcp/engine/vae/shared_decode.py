"""One decode on several ranks: each decodes a strip of every frame, and all of them get whole frames, as bytes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wan_mcp.engine.parallel.rank_group import RankGroup
from wan_mcp.engine.vae.chunked import ChunkedVAE
from wan_mcp.engine.vae.strips import Strip

__all__ = ["SharedDecode"]


class SharedDecode:
    """How the ranks of a group share the frames of one clip."""

    def __init__(self, coders: ChunkedVAE, latents: Tensor, group: RankGroup) -> None:
        """Divide the frames; all ranks call this with latents (1, channels, frames, height, width) of the same shape.

        Raises:
            RankLost: another rank does not answer.
        """
        self._group = group
        self._strips: Sequence[Strip] = coders.strips(latents, group.size)
        # Ranks have different free memory, but exchange the frames of a call.
        self.most = group.least(coders.frames_per_call(latents))

    @property
    def mine(self) -> Strip | None:
        """Return this rank's strip; None if frames are too small to be shared."""
        return self._strips[self._group.rank] if self._strips else None

    def whole(self, pixels: Tensor, finite: Tensor) -> tuple[Tensor, Tensor]:
        """Return the whole frames of a call, and whether all ranks' numbers were finite.

        Args:
            pixels: this rank's strip, (images, height, width, 3) uint8.
            finite: one boolean.

        Raises:
            RankLost: another rank does not answer.
        """
        if not self._strips:
            return pixels, finite
        dim, mine = self._strips[0].dim, self._strips[self._group.rank]
        scale = pixels.shape[dim] // mine.width
        shape = list(pixels.shape)
        shape[dim] = scale * max(strip.width for strip in self._strips)
        sent = pixels.new_zeros(shape)
        sent.narrow(dim, 0, pixels.shape[dim]).copy_(pixels)
        parts = self._group.all_gather(sent)
        pieces = [part.narrow(dim, 0, scale * strip.width) for part, strip in zip(parts, self._strips, strict=True)]
        all_finite = self._group.all_gather(finite.to(torch.uint8).view(1)).bool().all()
        return torch.cat(pieces, dim), all_finite
