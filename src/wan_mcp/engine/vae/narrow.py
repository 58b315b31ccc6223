"""Which convolutions our own kernel runs: cuDNN is slow at 96 channels, and proof comes before use."""

import logging
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

__all__ = ["narrow_kernels", "suits_narrow"]

log = logging.getLogger(__name__)

MOST_INPUTS = 96
"""From 128 channels on cuDNN reaches 600 TF/s on an H200; with 96 it takes a kernel for older GPUs, 280 TF/s."""
MOST_OUTPUTS = 16
"""Of a last convolution; cuDNN computes 128."""
DEPTH = 32
HOPPER = (9, 0)
TOLERATED = 0.005
"""Relative error of the trial: bf16 rounds each result by up to 1/256, on average by less than half of that."""


def suits_narrow(weight: Tensor) -> bool:
    """Whether a 3-D convolution's weight (outputs, inputs, time, rows, columns) is for our own kernel, here and now."""
    outputs, inputs = weight.shape[:2]
    small = (inputs <= MOST_INPUTS and outputs <= MOST_INPUTS) or outputs <= MOST_OUTPUTS
    if not (weight.is_cuda and weight.dtype is torch.bfloat16 and weight.shape[2:] == (3, 3, 3)):
        return False
    if not small or inputs % DEPTH or torch.cuda.get_device_capability(weight.device) < HOPPER:
        return False
    return _proved(int(outputs), int(inputs), weight.device)


def narrow_kernels() -> Any:
    """The module of the kernel; Triton exists only where GPUs do."""
    from wan_mcp.engine.vae import convolution

    return convolution


@cache
def _proved(outputs: int, inputs: int, device: Any) -> bool:
    """Whether the kernel gives what cuDNN gives, three times over enough pixels to fill the GPU."""
    try:
        random = torch.Generator(device).manual_seed(0)
        padded = F.pad(_noise((6, 160, 200, inputs), random), (0, 0, 1, 1, 1, 1))
        weight = _noise((outputs, 3, 3, 3, inputs), random) / (27 * inputs) ** 0.5
        bias = _noise((outputs,), random)
        channels_first = weight.permute(0, 4, 1, 2, 3)
        wanted = F.conv3d(padded.permute(3, 0, 1, 2)[None], channels_first, bias)[0].permute(1, 2, 3, 0).float()
        for _ in range(3):
            given = narrow_kernels().convolve_narrow(padded, weight.reshape(outputs, -1), bias).float()
            error = float((given - wanted).norm() / wanted.norm())
            if not error < TOLERATED:
                log.warning("our convolution of %d channels is off by %.4f here; cuDNN's is used", inputs, error)
                return False
    except Exception:  # whatever a compiler, a driver or a GPU that we do not know does not like
        log.warning("our convolution of %d channels does not run here; cuDNN's is used", inputs, exc_info=True)
        return False
    return True


def _noise(shape: tuple[int, ...], random: Any) -> Tensor:
    return torch.randn(shape, generator=random, device=random.device).bfloat16()
