"""Placement and quantization of a text encoder, which is larger than many denoisers and runs only briefly.

UMT5-XXL has 5.7 billion weights: 11.4 GB in bf16, 8.5 GB with the feed-forward layers in int8, and almost no device
memory when it is offloaded layer by layer.
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
from wan_mcp.engine.device.upload import upload_module
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
"""Unchanged on the device; with int8 feed-forward layers on the device; in main memory, copied for each pass."""

FEED_FORWARD = ("wi", "wi_0", "wi_1", "wo", "gate_proj", "up_proj", "down_proj")
"""Names of the linear layers of feed-forward parts in T5 and Qwen's models. Attention is not quantized: the errors
would change which tokens are attended to, in all later layers.

The error of an embedding with int8 is similar to that of bf16 itself: 0.5 % (bf16: 0.7 %) with wan-mini's trained
encoder, 1.1 % (bf16: 0.7 %) with two random layers of UMT5-XXL's size (`benchmarks/results/torchao_weights.json`), and
3.6 % from bf16 after all 24 with groups of 128. With FP8 it would be three to five times as large."""
GROUP_SIZE = 64
"""Weights of a row that share a scale: the largest for which torchao's error is no larger than that of 0.1.0's int8."""
HOST_SHARE = 0.7
"""Share of main memory that a model may use."""


def place_text_encoder(encoder: Any, device: torch.device, plan: TextEncoderPlan) -> Any:
    """Place the encoder as `plan` says, and return it; the result is called like the encoder.

    For "int8" the feed-forward layers are quantized on the device one by one, so that they never all have to fit
    unquantized. A pipeline that contains the result may be moved, with every plan.
    """
    encoder.eval().requires_grad_(False)
    if plan == "offloaded":
        return OffloadedEncoder(encoder, device)
    if plan == "int8":
        for layer in _feed_forward(encoder):
            weight = quantize_int8_groupwise(upload_module(layer, device).weight, _group_size(layer))
            layer.weight = nn.Parameter(weight, requires_grad=False)
    return upload_module(encoder, device)


def _feed_forward(encoder: nn.Module) -> list[nn.Linear]:
    return [
        layer
        for name, layer in encoder.named_modules()
        if name.rpartition(".")[2] in FEED_FORWARD and isinstance(layer, nn.Linear)
    ]


def _group_size(layer: nn.Linear) -> int:
    return math.gcd(GROUP_SIZE, layer.in_features)


def storage_of(encoder: Any) -> str:
    """Return how an encoder's weights are stored, as far as it affects results: "plain", or int8 with its parameters.

    It is part of the keys of prompt embeddings on disk. "int8" alone means groups of 128 without torchao, as written by
    version 0.1.0.
    """
    if any(isinstance(weight, Int8Tensor) for weight in encoder.parameters()):
        return f"int8, groups of {GROUP_SIZE}, torchao {torchao.__version__}"
    return "plain"


def plan_for(encoder: Any, device: Device, reserved_bytes: int = 0) -> TextEncoderPlan:
    """Choose and log the plan for an encoder in main memory, by total and free memory.

    Args:
        encoder: the text encoder.
        device: the device that it will run on.
        reserved_bytes: bytes that other parts of the model will still need there.
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
    """Choose the plan; all arguments are in bytes.

    The plan that changes results (int8) depends on the machine's total memory, the one that does not (offloading) on
    its free memory. The same request therefore returns the same frames, whatever else is running.

    Args:
        plain: size of the unchanged encoder.
        int8: size of the encoder with int8 layers.
        reserved_bytes: memory that the model will still need on the device.
        host: total main memory.
        gpu: free and total memory of the GPU, if the encoder runs on one.
    """
    if gpu is None:
        return "resident" if plain + reserved_bytes <= HOST_SHARE * host else "int8"
    free, total = gpu
    fits, fits_in_int8 = (has_room(size + reserved_bytes, total, total) for size in (plain, int8))
    if plain > HOST_SHARE * host and fits_in_int8 and not fits:
        return "int8"
    return "resident" if has_room(plain + reserved_bytes, free, total) else "offloaded"
