"""The machine and the versions that a result was measured with."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import psutil

from wan_mcp.hardware.processor import processor

if TYPE_CHECKING:
    import torch

__all__ = ["describe", "hardware", "versions"]

PACKAGES = ("wan-mcp", "mcp", "torch", "torchao", "diffusers", "transformers", "pydantic", "anyio", "uvicorn")


def describe() -> dict[str, Any]:
    """Return the processor, memory, system, package versions and load of now."""
    return {
        "processor": processor().name,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": platform.platform(terse=True),
        "python": platform.python_version(),
        "packages": _installed(PACKAGES),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def hardware(device: "torch.device") -> str:
    """Return the device in words: a GPU's name, or the CPU's instruction set and thread count."""
    import torch

    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU {platform.machine()} {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that compute."""
    return {"python": platform.python_version(), **_installed(("torch", "torchao", "diffusers", "transformers"))}


def _installed(packages: tuple[str, ...]) -> dict[str, str]:
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
