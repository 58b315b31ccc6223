"""Layer-by-layer offloading: parts of a model stay in main memory and are copied to the device while they run.

The device only needs memory for one layer at a time. The results are bit-identical; each pass takes the time to copy
all weights once.
"""

import logging
from typing import Any, cast

import torch
from torch import nn

from wan_mcp.engine.offload.pinned_memory import Pin, PinnedBuffer, cuda_pin, pinnable_bytes
from wan_mcp.text import in_bytes

__all__ = ["OffloadedEncoder", "offload_layerwise"]

log = logging.getLogger(__name__)

MIN_PIN_BYTES = 1 << 20
"""Minimum bytes for a tensor to be pinned in separate pages."""


def offload_layerwise(part: nn.Module, device: torch.device, *, often: bool = False) -> None:
    """Copy each layer of a part in main memory to `device` for each of its forward passes, from now on.

    With `often`, the tensors are pinned first, as far as the machine can spare the memory. That takes as long as a few
    passes, and makes each of them several times as fast.
    """
    part.to("cpu")
    if often and device.type == "cuda":
        pinned = _pin(part, pinnable_bytes(), cuda_pin(device))
        log.info("%s of %s are pinned", in_bytes(pinned), type(part).__name__)
    for layer in part.modules():
        if layer._parameters or layer._buffers:
            _LayerOffload(layer, device)


class OffloadedEncoder(nn.Module):
    """A text encoder in main memory whose layers are copied to the device one by one while it runs.

    It is called like the encoder. It owns no weights, so that they stay in place when a pipeline is moved.
    """

    def __init__(self, encoder: nn.Module, device: torch.device) -> None:
        super().__init__()
        offload_layerwise(encoder, device)
        self._encoder = (encoder,)
        self._device = device

    @property
    def device(self) -> torch.device:
        """Return the device that computes and that the inputs must be on."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of the computation."""
        return cast("torch.dtype", self._encoder[0].dtype)  # a property of transformers' models

    @property
    def config(self) -> Any:
        """Return the encoder's configuration."""
        return self._encoder[0].config

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Return the encoder's output, on the device."""
        return self._encoder[0](*inputs, **options)


class _LayerOffload:
    """Hooks that copy a layer's own tensors to a device for each of its forward passes."""

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        self._device = device
        self._kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
        layer.register_forward_pre_hook(self._come)
        # Always: an interrupted pass must not leave its tensors on the device.
        layer.register_forward_hook(self._go, always_call=True)

    def _come(self, layer: nn.Module, inputs: Any) -> None:
        self._kept = [(held, dict(held)) for held in (layer._parameters, layer._buffers)]
        for held, kept in self._kept:
            for name, tensor in kept.items():
                if tensor is not None:
                    there = _brought(tensor, self._device)
                    held[name] = nn.Parameter(there, requires_grad=False) if held is layer._parameters else there

    def _go(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        for held, kept in self._kept:
            held.update(kept)
        self._kept = []


def _brought(tensor: Any, device: torch.device) -> Any:
    # Ordered by the device's stream: kernels that read the copy wait for it, and the original is never written to.
    return tensor.detach().to(device, non_blocking=True)


def _pin(part: nn.Module, limit: int, pin: Pin) -> int:
    """Move a part's large tensors to pinned pages, up to `limit` bytes; return the bytes moved."""
    pinned = 0
    for tensor in part.parameters():
        if tensor.nbytes < MIN_PIN_BYTES or pinned + tensor.nbytes > limit:
            continue
        pages = PinnedBuffer.of(tensor.nbytes)
        if not pin(pages):
            break
        place = torch.frombuffer(pages, dtype=tensor.dtype).view(tensor.shape)
        tensor.data = place.copy_(tensor.data)
        pinned += tensor.nbytes
    return pinned
