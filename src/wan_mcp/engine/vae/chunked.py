"""Encoding and decoding of whole clips by an autoencoder's fast coders, in chunks that fit in memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wan_mcp.engine.compat import replace_vae_encoder, vae_encode
from wan_mcp.engine.vae.autoencoder import Decoder, Encoder, is_supported
from wan_mcp.engine.vae.chunk_size import latent_frames_per_call
from wan_mcp.engine.vae.layers import CausalState
from wan_mcp.engine.vae.strips import Strip, strips

__all__ = ["ChunkedVAE", "EncodeChunk", "encode_chunks", "install_fast_coders"]

STILL_GROUPS = 2
"""Minimum number of groups of four equal images for which computing only the first of them pays off."""


class EncodeChunk(NamedTuple):
    """Images that are encoded in one call."""

    start: int
    kept: int
    """Number of images to read; the others equal the last of them."""
    length: int


def encode_chunks(changes: list[bool], most: int) -> list[EncodeChunk]:
    """Return the calls that encode a clip; `changes[t]` is whether image t differs from image t - 1.

    The first image is encoded alone, then groups of four, up to `most` groups per call. A run of equal images is one
    call, of which only the first is kept.
    """
    groups = range(1, len(changes), 4)
    still = [not any(changes[at + 1 : at + 4]) for at in groups]
    runs, group = [EncodeChunk(0, 1, 1)], 0
    while group < len(groups):
        end = _still_until(group, groups, still, changes)
        if end - group >= STILL_GROUPS:
            runs.append(EncodeChunk(groups[group], 1, 4 * (end - group)))
        else:
            end = group + 1
            while end < len(groups) and end - group < most:
                if _still_until(end, groups, still, changes) - end >= STILL_GROUPS:
                    break
                end += 1
            runs.append(EncodeChunk(groups[group], 4 * (end - group), 4 * (end - group)))
        group = end
    return runs


def _still_until(group: int, groups: range, still: list[bool], changes: list[bool]) -> int:
    """Return the group after the run of equal images that begins with `group`, or `group` if there is none."""
    if not still[group]:
        return group
    end = group + 1
    while end < len(groups) and still[end] and not changes[groups[end]]:
        end += 1
    return end


class ChunkedVAE:
    """Encoder and decoder of an `AutoencoderKLWan`, for one clip at a time."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self._decoder = Decoder(vae)
        self._encoder = Encoder(vae)

    def strips(self, latents: Tensor, count: int) -> Sequence[Strip]:
        """Return the strips in which `count` devices decode these latents; none if one device is as fast."""
        height, width = latents.shape[3:]
        return strips(height, width, self._decoder.reach, count)

    def frames_per_call(self, latents: Tensor) -> int:
        """Return how many latent frames a call of `decode` can take, as much memory as there is now."""
        return latent_frames_per_call(self._vae, *latents.shape[3:])

    @torch.no_grad()
    def decode(
        self, latents: Tensor, strip: Strip | None = None, most: int | None = None
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield numbers of latent frames and their pixels (images, height, width, 3), float32, not clamped.

        Args:
            latents: (1, channels, frames, height, width), denormalized.
            strip: the part of each frame to decode; None for all of it.
            most: latent frames per call; None for what fits in memory.
        """
        frames = latents[0].permute(1, 2, 3, 0).contiguous()
        count, most = len(frames), most or self.frames_per_call(latents)
        run, start = CausalState(), 0
        while start < count:
            end = min(count, start + most) if start else 1
            yield end - start, self._decoder(frames[start:end], run, strip)
            start = end

    @torch.no_grad()
    def encode(self, pictures: Tensor) -> Tensor:
        """Encode (1, 3, 1 + 4 * k, height, width); return means and log-variances (1, 2 * channels, frames, …)."""
        rows = pictures[0].permute(1, 2, 3, 0).contiguous()
        differs = (rows[1:] != rows[:-1]).flatten(1).any(1).tolist()
        ratio = self._vae.config.scale_factor_spatial
        most = latent_frames_per_call(self._vae, rows.shape[1] // ratio, rows.shape[2] // ratio)
        run, parts = CausalState(), []
        for start, kept, length in encode_chunks([True, *differs], most):
            parts.append(self._encoder(rows[start : start + kept], length, run))
        return torch.cat(parts).permute(3, 0, 1, 2)[None]


def install_fast_coders(vae: Any) -> ChunkedVAE | None:
    """Make an autoencoder encode single clips with the fast coders, and return them; None if it is unsupported.

    Call it when the weights are in their final place. Batches and tiles are still encoded by the autoencoder itself.
    """
    if not is_supported(vae):
        return None
    coders = ChunkedVAE(vae)

    def encode(vae: Any, pictures: Tensor) -> Tensor:
        if pictures.shape[0] == 1 and not vae.use_tiling:
            return coders.encode(pictures)
        return vae_encode(vae, pictures)

    replace_vae_encoder(vae, encode)
    return coders
