"""Select our convolution kernel if it runs on this device and agrees with cuDNN; it is checked before use."""

import logging
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from wan_mcp.engine.device.kernel_checks import measured_error

__all__ = ["convolve", "use_triton_conv"]

log = logging.getLogger(__name__)

MULTIPLE = 32
"""The number of channels must be a multiple of this."""
HOPPER = (9, 0)
"""The GPUs that it was written for and measured on; others use cuDNN."""
TOLERATED = 0.005
"""Maximum relative error in the check: bf16 rounds each result by up to 1/256, on average by less than half of that."""


def use_triton_conv(weight: Tensor) -> bool:
    """Check whether our kernel supports a convolution's weight (outputs, inputs, time, rows, columns) on its device."""
    outputs, inputs = weight.shape[:2]
    if not (weight.is_cuda and weight.dtype is torch.bfloat16 and weight.shape[2:] == (3, 3, 3)):
        return False
    if inputs % MULTIPLE or outputs % 8 or torch.cuda.get_device_capability(weight.device) != HOPPER:
        return False
    return _proved(int(outputs), int(inputs), weight.device)


def convolve(bordered: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """See `conv3d_triton.convolve`; imported here, because Triton is only available with a GPU."""
    from wan_mcp.engine.vae import conv3d_triton as convolution

    return convolution.convolve(bordered, weight, bias)


@cache
def _proved(outputs: int, inputs: int, device: Any) -> bool:
    """Check whether the kernel agrees with cuDNN, with enough pixels to fill the GPU."""
    check = f"our convolution of {inputs} to {outputs} channels"
    try:
        error = measured_error(device, check, TOLERATED, partial(_worst_error, outputs, inputs, device))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # whatever an unknown compiler, driver or GPU rejects
        log.warning("our convolution of %d channels does not run here; using cuDNN", inputs, exc_info=True)
        return False
    if not error < TOLERATED:
        log.warning("our convolution of %d channels has an error of %.4f here; using cuDNN", inputs, error)
        return False
    return True


def _worst_error(outputs: int, inputs: int, device: Any) -> float:
    """Return the largest error against cuDNN in three runs."""
    random = torch.Generator(device).manual_seed(0)
    bordered = F.pad(_noise((6, 120, 150, inputs), random), (0, 0, 1, 1, 1, 1))
    weight = _noise((outputs, 3, 3, 3, inputs), random) / (27 * inputs) ** 0.5
    bias = _noise((outputs,), random)
    channels_first = weight.permute(0, 4, 1, 2, 3)
    expected = F.conv3d(bordered.permute(3, 0, 1, 2)[None], channels_first, bias)[0].permute(1, 2, 3, 0).float()
    worst = 0.0
    for _ in range(3):
        actual = convolve(bordered, weight.reshape(outputs, -1), bias).float()
        error = float((actual - expected).norm() / expected.norm())
        worst = max(worst, error if error == error else float("inf"))
    return worst


def _noise(shape: tuple[int, ...], random: Any) -> Tensor:
    return torch.randn(shape, generator=random, device=random.device).bfloat16()
