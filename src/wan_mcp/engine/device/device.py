"""The device that an engine runs on: which one, in which precision, and what to call it in a receipt."""

from dataclasses import dataclass
from typing import Any

import torch

from wan_mcp.errors import JobFailed
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.hardware.machine import MIN_FP8_CAPABILITY, Machine
from wan_mcp.schema.enums import ComputePrecision

__all__ = ["Device", "device_name", "resolve_device"]


@dataclass(frozen=True)
class Device:
    """A resolved device."""

    torch: Any
    """The `torch.device`."""
    precision: ComputePrecision
    """What models run in that are not quantized: fp32 or bf16."""
    description: str
    """What decides the last bits of a result beside the precision: the GPU, or the CPU's instruction set."""

    @property
    def dtype(self) -> Any:
        """The precision as a `torch.dtype`."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def is_cuda(self) -> bool:
        """Whether it is an Nvidia (or ROCm) GPU."""
        return bool(self.torch.type == "cuda")

    def machine(self) -> Machine:
        """What it can hold, as fronts need to know it."""
        if not self.is_cuda:
            return Machine("CPU", self.precision, main_memory())
        found = torch.cuda.get_device_properties(self.torch)
        has_fp8 = (found.major, found.minor) >= MIN_FP8_CAPABILITY
        return Machine("GPU", self.precision, int(found.total_memory), has_fp8)

    def free_memory(self) -> None:
        """Give cached memory back to the device."""
        if self.is_cuda:
            torch.cuda.empty_cache()

    def finish(self) -> None:
        """Wait until the device has done all that was asked of it."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch)


def device_name(setting: str) -> str:
    """What a setting stands for on this machine; of auto, the first GPU, else the CPU."""
    return ("cuda:0" if torch.cuda.is_available() else "cpu") if setting == "auto" else setting


def resolve_device(name: str) -> Device:
    """The device behind a setting: auto, cpu, cuda or cuda:N; a GPU is this process's current one from now on.

    Raises:
        JobFailed: there is no such GPU.
    """
    name = device_name(name)
    if name == "cpu":
        return Device(torch.device("cpu"), "fp32", f"cpu {torch.backends.cpu.get_cpu_capability()}")
    index, found = int(name.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= found:
        raise JobFailed(
            "no_device", f"There is no device {name}: torch sees {found} GPUs. Set WAN_MCP_DEVICE to auto or cpu."
        )
    torch.cuda.set_device(index)  # Triton launches there, whatever its tensors are on
    return Device(torch.device("cuda", index), "bf16", torch.cuda.get_device_name(index))
