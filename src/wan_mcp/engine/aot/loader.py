"""Load a package's code into this process. The caller checks that it is valid."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import wan_mcp.engine.transformer.self_attention  # noqa: F401  # registers the custom ops that packages call

__all__ = ["Call", "load_package"]

Call = Callable[[list[Tensor]], list[Tensor]]
"""Runs a package on its flat inputs, and clears the list."""


def load_package(file: Path, device: Any, identity: str) -> Call:
    """Return the package in `file` as a function.

    Raises:
        RuntimeError: it cannot be read, or its metadata names another package.
    """
    index = device.index or 0 if device.type == "cuda" else -1
    # Not `torch._inductor.aoti_load_package`: it retries a file that it cannot read, and parses a description of the
    # inputs at every call.
    # Single-threaded: with several threads, each call first waits for the previous one on the GPU, by an event that a
    # CUDA graph cannot contain.
    loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", True, 1, index)
    found = loader.get_metadata().get("wan_mcp")
    if found != identity:
        raise RuntimeError(f"its metadata names package {found}, not {identity}")

    def run(inputs: list[Tensor]) -> list[Tensor]:
        return list(loader.boxed_run(inputs))

    return run
