"""Where an unchanged pipeline of diffusers runs: on the device as a whole, or by diffusers' own offload."""

from typing import Any

import torch

from wan_mcp.engine.device.device import Device

__all__ = ["place_plainly"]

WORKING_SHARE = 0.15
"""Share of a GPU's free memory that a job is left for its activations."""


def place_plainly(pipeline: Any, device: Device) -> str:
    """Put a pipeline's parts where they are to run, and say how, in the words of diffusers.

    All go to the device if there is room. Otherwise each comes to the GPU while it works (`enable_model_cpu_offload`).
    """
    if device.is_cuda:
        free, _ = torch.cuda.mem_get_info(device.torch)
        if _bytes(pipeline) > (1 - WORKING_SHARE) * free:
            pipeline.enable_model_cpu_offload(device=device.torch)
            return "enable_model_cpu_offload"
    pipeline.to(device.torch)
    return "to(device)"


def _bytes(pipeline: Any) -> int:
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    return sum(tensor.nbytes for part in parts for tensor in (*part.parameters(), *part.buffers()))
