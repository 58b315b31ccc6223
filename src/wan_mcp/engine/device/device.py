"""The engine's device: its selection, precision, and name in receipts."""

from dataclasses import dataclass
from typing import Any

import torch

from wan_mcp.engine.device.reproducible import arithmetic
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.hardware.machine import MIN_FP8_CAPABILITY, Machine
from wan_mcp.hardware.processor import processor
from wan_mcp.schema.enums import ComputePrecision

__all__ = ["Device", "auto_devices", "device_name", "resolve_device"]


@dataclass(frozen=True)
class Device:
    """A resolved device."""

    torch: Any
    """The `torch.device`."""
    precision: ComputePrecision
    """Precision of models that are not quantized: fp32 or bf16."""
    description: str
    """The GPU; or the CPU, its instruction set, its threads and MKL's mode: what the last bits depend on."""

    @property
    def dtype(self) -> Any:
        """Return the precision as a `torch.dtype`."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def is_cuda(self) -> bool:
        """Check whether it is an Nvidia (or ROCm) GPU."""
        return bool(self.torch.type == "cuda")

    def machine(self) -> Machine:
        """Return its capacity, for the fronts."""
        if not self.is_cuda:
            return Machine("CPU", self.precision, main_memory(), model=self.description)
        found = torch.cuda.get_device_properties(self.torch)
        has_fp8 = (found.major, found.minor) >= MIN_FP8_CAPABILITY
        return Machine("GPU", self.precision, int(found.total_memory), has_fp8, self.description)

    def free_memory(self) -> None:
        """Free the allocator's cached memory."""
        if self.is_cuda:
            torch.cuda.empty_cache()

    def finish(self) -> None:
        """Wait until the device has finished all enqueued work."""
        if self.is_cuda:
            torch.cuda.synchronize(self.torch)


def auto_devices() -> tuple[str, ...]:
    """Return the names of the devices that the setting auto means: all GPUs, or else the CPU."""
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count())) or ("cpu",)


def device_name(setting: str) -> str:
    """Return the name of the device for the setting of one engine; for auto, the first."""
    return auto_devices()[0] if setting == "auto" else setting


def resolve_device(name: str, threads: int = 0) -> Device:
    """Return the device for a setting: auto, cpu, cuda or cuda:N; a GPU becomes this process's current one.

    `threads` is the number of CPU threads of this process from now on; 0 leaves the choice to torch.

    Raises:
        JobFailed: there is no such GPU.
    """
    # Torch's own choice too has to be set: as long as no number is, MKL may use fewer threads than that.
    torch.set_num_threads(threads or torch.get_num_threads())
    name = device_name(name)
    if name == "cpu":
        return Device(torch.device("cpu"), "fp32", _describe_cpu())
    index, found = int(name.partition(":")[2] or 0), torch.cuda.device_count()
    if index >= found:
        raise JobFailed(
            "no_device", f"There is no device {name}: torch sees {found} GPUs. Set WAN_MCP_DEVICE to auto or cpu."
        )
    torch.cuda.set_device(index)  # Triton launches on the current device, not the tensors' one
    return Device(torch.device("cuda", index), "bf16", torch.cuda.get_device_name(index))


def _describe_cpu() -> str:
    """Return the CPU as receipts and caches know it: where any of this differs, the last bits can."""
    found, threads = processor(), torch.get_num_threads()
    facts = (
        f"cpu {torch.backends.cpu.get_cpu_capability()}",
        f"{found.name} {found.signature}".strip(),
        f"{threads} thread{'' if threads == 1 else 's'}",
    )
    return ", ".join((*facts, *arithmetic()))
