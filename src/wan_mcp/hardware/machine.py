"""The memory of this machine, read from the driver's own tool and the kernel: a front never imports torch."""

import re
import shutil
import subprocess
from dataclasses import dataclass, field

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.child_environment import child_environment
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.schema.enums import ComputePrecision, RequestedPrecision
from wan_mcp.settings import Settings

__all__ = ["MIN_FP8_CAPABILITY", "Machine", "gpu_memory", "listed_gpus", "this_machine"]

TOOL = "nvidia-smi"
TOOL_TIMEOUT_S = 10
MIB = 1024 * 1024
MIN_FP8_CAPABILITY = (8, 9)
"""Compute capability from which Nvidia GPUs convert to and multiply e4m3 (Ada; Hopper is 9.0)."""


@dataclass(frozen=True)
class Machine:
    """The device on which an engine of these settings would run."""

    name: str
    """GPU or CPU."""
    precision: ComputePrecision
    """The precision of models on it."""
    memory: int | None
    """Total bytes; None if unknown."""
    has_fp8: bool = False
    model: str = field(default="", compare=False)
    """The name of the hardware, such as NVIDIA H100 80GB HBM3; empty if unknown."""

    def precision_of(self, manifest: Manifest, asked: RequestedPrecision = "auto") -> ComputePrecision:
        """Return the precision of a model's denoisers if `asked` is requested."""
        if self.name == "CPU":
            return "gguf" if manifest.is_gguf else self.precision
        return "fp8" if manifest.can_be_fp8 and self.has_fp8 and asked != "full" else self.precision


def this_machine(settings: Settings) -> Machine:
    """Return the first GPU of the settings if the driver lists it, else the CPU."""
    if settings.device != "cpu":
        number = re.search(r"\d+", settings.device)
        gpu = _gpu(number[0] if number else "0")
        if gpu is not None:
            return gpu
        if settings.device != "auto" and shutil.which(TOOL) is None:
            return Machine("GPU", "bf16", None)
    return Machine("CPU", "fp32", main_memory())


def listed_gpus() -> tuple[str, ...]:
    """Return the names of all GPUs that the driver's tool lists, whether or not torch can use them."""
    lines = _ask_driver("--query-gpu=name", "--format=csv,noheader") or []
    return tuple(line.strip() for line in lines if line.strip())


def gpu_memory(index: str) -> tuple[int, int] | None:
    """Return the used and the total memory of a GPU in bytes, as the driver's tool tells; None without it."""
    try:
        used, total = _facts_of_gpu(index, "memory.used", "memory.total")
        return int(used) * MIB, int(total) * MIB
    except ValueError:
        return None


def _gpu(index: str) -> Machine | None:
    try:
        memory, capability = _facts_of_gpu(index, "memory.total", "compute_cap")
        numbers = tuple(int(number) for number in (capability or "0").split("."))
        return Machine("GPU", "bf16", int(memory) * MIB, numbers >= MIN_FP8_CAPABILITY)
    except ValueError:
        return None


def _facts_of_gpu(index: str, first: str, second: str) -> tuple[str, str]:
    """Return two facts about a GPU, in the tool's words and units; empty ones where it says nothing."""
    lines = _ask_driver(f"--id={index}", f"--query-gpu={first},{second}", "--format=csv,noheader,nounits") or [""]
    one, _, other = lines[0].partition(",")
    return one, other.strip()


def _ask_driver(*arguments: str) -> list[str] | None:
    """Return the lines that the driver's tool answers; None without the tool, or if it fails."""
    tool = shutil.which(TOOL)
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, *arguments],
            env=child_environment(),
            capture_output=True,
            text=True,
            timeout=TOOL_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.split("\n")
