"""Bring a package's code into this process. Whether it may be is decided before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wan_mcp.engine.transformer.self_attention  # noqa: F401  # operators that packages call: there before these are loaded

__all__ = ["Call", "load_package"]

Call = Callable[[list[Tensor]], list[Tensor]]
"""Runs a package on its flat inputs, and empties the list."""


def load_package(file: Path, device: Any, identity: str) -> Call:
    """The package in `file` as a function.

    Raises:
        RuntimeError: it cannot be read, or says of itself that it is another.
    """
    index = device.index or 0 if device.type == "cuda" else -1
    # Not `torch._inductor.aoti_load_package`: it tries a file twice that it cannot read, and its call parses a
    # description of the inputs every time.
    # For one thread: for several, a call first waits until the GPU has done the one before, by an event that no CUDA
    # graph may hold.
    loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", True, 1, index)
    found = loader.get_metadata().get("wan_mcp")
    if found != identity:
        raise RuntimeError(f"it says that it is {found}, not {identity}")

    def run(inputs: list[Tensor]) -> list[Tensor]:
        return list(loader.boxed_run(inputs))

    return run
