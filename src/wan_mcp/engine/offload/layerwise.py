"""Parts of a model that live in main memory and come to the device while they work, layer by layer.

So a device needs room for one layer of them at a time. The results are the same to the bit; each pass costs the time
to bring all weights once.
"""

import logging
from typing import Any

import torch
from torch import nn

from wan_mcp.engine.offload.pinned_memory import Pin, PinnedBuffer, cuda_pin, pinnable_bytes
from wan_mcp.text import in_bytes

__all__ = ["OffloadedEncoder", "offload_layerwise"]

log = logging.getLogger(__name__)

MIN_PIN_BYTES = 1 << 20
"""Bytes from which a tensor is worth pages of its own."""


def offload_layerwise(part: nn.Module, device: torch.device, *, often: bool = False) -> None:
    """Let each layer of a part in main memory come to `device` for each of its passes, from now on.

    What comes `often` is pinned first, as far as the machine can spare the memory: that takes as long as a few
    passes, and makes each several times as fast.
    """
    part.to("cpu")
    if often and device.type == "cuda":
        pinned = _pin(part, pinnable_bytes(), cuda_pin(device))
        log.info("%s of %s are pinned", in_bytes(pinned), type(part).__name__)
    for layer in part.modules():
        if layer._parameters or layer._buffers:
            _LayerOffload(layer, device)


class OffloadedEncoder(nn.Module):  # type: ignore[misc]
    """A text encoder in main memory whose layers come to the device one by one while it works.

    It is called like the encoder. It has no weights of its own, so that moving a pipeline leaves them where they are.
    """

    def __init__(self, encoder: nn.Module, device: torch.device) -> None:
        super().__init__()
        offload_layerwise(encoder, device)
        self._encoder = (encoder,)
        self._device = device

    @property
    def device(self) -> torch.device:
        """Where it computes, and where its inputs must be."""
        return self._device

    @property
    def dtype(self) -> torch.dtype:
        """What it computes in."""
        return self._encoder[0].dtype

    @property
    def config(self) -> Any:
        """The encoder's."""
        return self._encoder[0].config

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """What the encoder gives, on the device."""
        return self._encoder[0](*inputs, **options)


class _LayerOffload:
    """Lends a layer's own tensors to a device for each of its passes."""

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        self._device = device
        self._kept: list[tuple[dict[str, Any], dict[str, Any]]] = []
        layer.register_forward_pre_hook(self._come)
        # Always: a pass that is broken off must not leave its tensors on the device.
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
    # Ordered by the device's stream: what works with the copy waits for it, and nobody writes the original.
    return tensor.detach().to(device, non_blocking=True)


def _pin(part: nn.Module, limit: int, pin: Pin) -> int:
    """Move a part's large tensors to pinned pages, up to `limit` bytes; how many were."""
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
