"""Where a text encoder lies and in how many bits, for it is larger than many a denoiser and works for an instant.

UMT5-XXL has 5.7 billion weights: 11.4 GB in bf16, 8.4 GB with the feed-forward layers in int8, and none at all on the
device when they only visit it.
"""

import logging
import math
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.memory import has_room
from wan_mcp.engine.offload.layerwise import OffloadedEncoder
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.text import in_bytes

__all__ = [
    "Int8Linear",
    "TextEncoderPlan",
    "choose_plan",
    "place_text_encoder",
    "plan_for",
    "storage_of",
]

log = logging.getLogger(__name__)

TextEncoderPlan = Literal["resident", "int8", "offloaded"]
"""On the device as it is; on the device with int8 feed-forward layers; in main memory, at the device for each pass."""

FEED_FORWARD = ("wi", "wi_0", "wi_1", "wo", "gate_proj", "up_proj", "down_proj")
"""What the linear layers of a feed-forward part are called in T5 and in Qwen's models. Attention stays as it is: in
few bits it shifts what is attended to, which every later layer inherits.

The error that int8 brings to an embedding is about that of bf16 itself: 0.4 % (bf16: 0.4 %) with wan-mini's trained
encoder, 1.1 % (bf16: 0.6 %) with two random layers of UMT5-XXL's size, 3.6 % from bf16 after all 24. FP8 would bring
three to five times as much."""
GROUP = 128
"""Weights of a row that share a scale."""
INT8_MAX = 127
HOST_SHARE = 0.7
"""Share of main memory that a model may take."""


class Int8Linear(nn.Module):  # type: ignore[misc]
    """A linear layer whose weights are stored in int8, and computed with in the precision of what comes in."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        grouped = layer.weight.detach().float().unflatten(1, (-1, math.gcd(GROUP, layer.in_features)))
        scale = (grouped.abs().amax(-1, keepdim=True) / INT8_MAX).clamp(min=1e-12)
        self.weight: Tensor
        self.scale: Tensor
        self.bias: Tensor | None
        # T5 looks at the type of `weight`, and casts what comes in to it unless it is int8.
        self.register_buffer("weight", (grouped / scale).round().to(torch.int8).flatten(1))
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        scale = self.scale
        super()._apply(fn, recurse)
        # A cast of the whole model is for what is computed with; scales keep their digits.
        self.scale = scale.to(self.scale.device)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        grouped = self.weight.unflatten(1, (self.scale.shape[1], -1)) * self.scale
        bias = None if self.bias is None else self.bias.to(inputs.dtype)
        return F.linear(inputs, grouped.flatten(1).to(inputs.dtype), bias)


def place_text_encoder(encoder: Any, device: torch.device, plan: TextEncoderPlan) -> Any:
    """The encoder where and as `plan` says; the result is called as the encoder is.

    For "int8" its feed-forward layers go to the device one by one, so that there never need be room for them as they
    were. Moving a pipeline that holds the result does no harm in any plan.
    """
    encoder.eval().requires_grad_(False)
    if plan == "offloaded":
        return OffloadedEncoder(encoder, device)
    if plan == "int8":
        for part in list(encoder.modules()):
            for name, layer in _feed_forward(part):
                setattr(part, name, Int8Linear(layer.to(device)))
    return encoder.to(device)


def _feed_forward(part: nn.Module) -> list[tuple[str, nn.Linear]]:
    return [
        (name, each) for name, each in part.named_children() if name in FEED_FORWARD and isinstance(each, nn.Linear)
    ]


def storage_of(encoder: Any) -> str:
    """How an encoder's weights are stored, as far as its results depend on it: plain or int8."""
    return "int8" if any(isinstance(layer, Int8Linear) for layer in encoder.modules()) else "plain"


def plan_for(encoder: Any, device: Device, reserved_bytes: int = 0) -> TextEncoderPlan:
    """The plan for an encoder that lies in main memory, by what there is and what is free; the log says which.

    Args:
        encoder: the text encoder.
        device: where it is to compute.
        reserved_bytes: bytes that other parts of the model will still take there.
    """
    plain = sum(tensor.nbytes for tensor in encoder.parameters())
    saved = sum(
        layer.weight.nbytes - layer.weight.numel() - 4 * layer.weight.numel() // math.gcd(GROUP, layer.in_features)
        for part in encoder.modules()
        for _, layer in _feed_forward(part)
    )
    gpu = torch.cuda.mem_get_info(device.torch) if device.is_cuda else None
    plan = choose_plan(plain, plain - saved, reserved_bytes, main_memory(), gpu)
    log.info("text encoder of %s: %s", in_bytes(plain), plan)
    return plan


def choose_plan(plain: int, int8: int, reserved_bytes: int, host: int, gpu: tuple[int, int] | None) -> TextEncoderPlan:
    """The plan, all in bytes.

    A plan that changes results (int8) is chosen for what a machine has, where one that does not (visiting) is chosen
    for what is free: so the same request gives the same frames whatever else runs.

    Args:
        plain: the encoder as it is.
        int8: the encoder with int8 layers.
        reserved_bytes: what else the model will take on the device.
        host: all main memory.
        gpu: what is free and all there is on the GPU, if that is where the encoder works.
    """
    if gpu is None:
        return "resident" if plain + reserved_bytes <= HOST_SHARE * host else "int8"
    free, total = gpu
    fits, fits_in_int8 = (has_room(size + reserved_bytes, total, total) for size in (plain, int8))
    if plain > HOST_SHARE * host and fits_in_int8 and not fits:
        return "int8"
    return "resident" if has_room(plain + reserved_bytes, free, total) else "offloaded"
