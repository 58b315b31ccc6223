"""What this machine can hold: asked of the driver's own tool and the kernel, for a front never imports torch."""

import shutil
import subprocess
from dataclasses import dataclass

import psutil

from wan_mcp.manifests import Manifest
from wan_mcp.settings import Settings
from wan_mcp.weights.progress import in_bytes

__all__ = ["Machine", "this_machine"]

SMI_TIMEOUT_S = 10
MIB = 1024 * 1024


@dataclass(frozen=True)
class Machine:
    """Where an engine of these settings would run."""

    name: str
    precision: str
    """What models run in there."""
    memory: int
    """Bytes in all."""

    def verdict(self, manifest: Manifest) -> str:
        """Whether a model's weights have room, in a word or two; empty if its manifest does not say."""
        needed = manifest.weights.memory_bytes.get(self.precision)
        if needed is None:
            return ""
        words = f"{in_bytes(needed)} in {self.precision}"
        return words if needed <= self.memory else f"{words}: {in_bytes(needed - self.memory)} too large"


def this_machine(settings: Settings) -> Machine:
    """The GPU of the settings, if the driver knows it, else the CPU."""
    if settings.device != "cpu":
        gpu = _gpu_memory(settings.device.partition(":")[2] or "0")
        if gpu is not None:
            return Machine("GPU", "bf16", gpu)
    return Machine("CPU", "fp32", psutil.virtual_memory().total)


def _gpu_memory(index: str) -> int | None:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    query = [tool, f"--id={index}", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=SMI_TIMEOUT_S, check=True)
        return int(answer.stdout.split()[0]) * MIB
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        return None
