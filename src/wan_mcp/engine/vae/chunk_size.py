"""The number of latent frames per decoder call."""

from typing import Any

import torch

__all__ = ["BOUND", "latent_frames_per_call"]

BOUND = 12 * 2**30
"""Maximum bytes for decoding, in addition to the weights."""
SHARE = 0.8
"""Share of the free memory."""
MAX_LATENT_FRAMES = 4
"""Maximum latent frames per call: more are no faster (measured), and cancellation is checked between calls."""
ADDRESSED = 2**31
"""Maximum elements of a tensor that convolutions index with 32 bits."""
PEAK_FACTOR = 2.6
"""Peak memory of a call as a multiple of its widest activation: measured 2.5 at 480p and 720p, 3.0 for Wan2.2 5B."""
PAST = 3.6
"""Causal state of all layers as a multiple of the widest activation of one latent frame: measured 3.5 and 4.1."""


def latent_frames_per_call(vae: Any, height: int, width: int) -> int:
    """Return how many latent frames of `height` x `width` may be decoded per call after the first, at least 1.

    Encoding needs less memory.
    """
    widest = _widest(vae.config, height, width)
    bytes_each = widest * vae.dtype.itemsize
    room = min(BOUND, SHARE * _free(vae.device)) - PAST * bytes_each
    fitting = int(room / (PEAK_FACTOR * bytes_each))
    return max(1, min(MAX_LATENT_FRAMES, fitting, (ADDRESSED - 1) // widest))


def _widest(config: Any, height: int, width: int) -> int:
    """Return the elements of the widest activation of one latent frame: before a convolution after upsampling."""
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
