"""Where a text encoder lies and in how many bits, for it is larger than many a denoiser and works for an instant.

UMT5-XXL has 5.7 billion weights: 11.4 GB in bf16, 8.4 GB with the feed-forward layers in int8, and none at all on the
device when they only visit it.
"""

import logging
import math
from typing import Any, Literal

import torch
import torchao
from torch import nn
from torchao.quantization import Int8Tensor

from wan_mcp.engine.device.device import Device
from wan_mcp.engine.device.memory import has_room
from wan_mcp.engine.offload.layerwise import OffloadedEncoder
from wan_mcp.engine.ops.quantize_weights import quantize_int8_groupwise
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.text import in_bytes

__all__ = [
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
GROUP_SIZE = 64
"""Weights of a row that share a scale."""
HOST_SHARE = 0.7
"""Share of main memory that a model may take."""


def place_text_encoder(encoder: Any, device: torch.device, plan: TextEncoderPlan) -> Any:
    """The encoder where and as `plan` says; the result is called as the encoder is.

    For "int8" its feed-forward layers go to the device one by one, so that there never need be room for them as they
    were. Moving a pipeline that holds the result does no harm in any plan.
    """
    encoder.eval().requires_grad_(False)
    if plan == "offloaded":
        return OffloadedEncoder(encoder, device)
    if plan == "int8":
        for layer in _feed_forward(encoder):
            weight = quantize_int8_groupwise(layer.to(device).weight, _group_size(layer))
            layer.weight = nn.Parameter(weight, requires_grad=False)
    return encoder.to(device)


def _feed_forward(encoder: nn.Module) -> list[nn.Linear]:
    return [
        layer
        for name, layer in encoder.named_modules()
        if name.rpartition(".")[2] in FEED_FORWARD and isinstance(layer, nn.Linear)
    ]


def _group_size(layer: nn.Linear) -> int:
    return math.gcd(GROUP_SIZE, layer.in_features)


def storage_of(encoder: Any) -> str:
    """Return how an encoder's weights are stored, as far as its results depend on it: "plain", or int8 by which code.

    Prompt embeddings on disk have it in their keys. "int8" alone stands for groups of 128 without torchao, which
    version 0.1.0 wrote.
    """
    if any(isinstance(weight, Int8Tensor) for weight in encoder.parameters()):
        return f"int8, groups of {GROUP_SIZE}, torchao {torchao.__version__}"
    return "plain"


def plan_for(encoder: Any, device: Device, reserved_bytes: int = 0) -> TextEncoderPlan:
    """The plan for an encoder that lies in main memory, by what there is and what is free; the log says which.

    Args:
        encoder: the text encoder.
        device: where it is to compute.
        reserved_bytes: bytes that other parts of the model will still take there.
    """
    plain = sum(tensor.nbytes for tensor in encoder.parameters())
    saved = sum(
        layer.weight.nbytes - layer.weight.numel() - 4 * layer.weight.numel() // _group_size(layer)
        for layer in _feed_forward(encoder)
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
