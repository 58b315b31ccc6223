"""How many latent frames may go through a decoder at once."""

from typing import Any

import torch

__all__ = ["BOUND", "latent_frames_per_call"]

BOUND = 12 * 2**30
"""Bytes that decoding may take beside the weights."""
SHARE = 0.8
"""Of what is free."""
MAX_LATENT_FRAMES = 4
"""Latent frames in one call, whatever the memory: more gain nothing (measured), and a cancel is heard in between."""
ADDRESSED = 2**31
"""Numbers in one tensor that convolutions index with 32 bits."""
PEAK_FACTOR = 2.6
"""Peak of a call, as a multiple of its widest activation: 2.5 measured at 480p and 720p, 3.0 with Wan2.2 5B's."""
PAST = 3.6
"""What all layers keep of the past, as a multiple of the widest activation of one latent frame: 3.5 and 4.1."""


def latent_frames_per_call(vae: Any, height: int, width: int) -> int:
    """Latent frames of `height` x `width` that may be decoded at once after the first, at least 1.

    Encoding takes less.
    """
    widest = _widest(vae.config, height, width)
    bytes_each = widest * vae.dtype.itemsize
    room = min(BOUND, SHARE * _free(vae.device)) - PAST * bytes_each
    fitting = int(room / (PEAK_FACTOR * bytes_each))
    return max(1, min(MAX_LATENT_FRAMES, fitting, (ADDRESSED - 1) // widest))


def _widest(config: Any, height: int, width: int) -> int:
    """Numbers in the widest activation of one latent frame: before the convolution that follows an enlargement."""
    base = int(config.decoder_base_dim or config.base_dim)
    widths = [base * int(multiple) for multiple in config.dim_mult[::-1]]
    pixels, frames, widest = height * width, 1, 0
    for channels, in_time in zip(widths, config.temperal_downsample[::-1], strict=False):
        pixels, frames = 4 * pixels, frames * (2 if in_time else 1)
        widest = max(widest, channels * pixels * frames)
    return max(widest, widths[-1] * pixels * frames)


def _free(device: Any) -> float:
    if device.type != "cuda":
        return float("inf")
    free, _ = torch.cuda.mem_get_info(device)
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return float(free + cached)
