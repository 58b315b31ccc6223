"""Load a new package and compare it with eager execution, in a separate process that may crash."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch

from wan_mcp.engine.aot.cache_key import cache_key_of, kind_from_dict
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.engine.aot.gpu_budget import limit_gpu_memory
from wan_mcp.engine.aot.loader import load_package
from wan_mcp.engine.aot.signature import example_inputs, example_weights
from wan_mcp.engine.ops.fp8_linear import PLAIN
from wan_mcp.engine.transformer.block import BlockKind, ExportableBlock
from wan_mcp.logs import log_to_stderr

__all__ = ["largest_difference", "verify"]

log = logging.getLogger("wan_mcp.engine.aot.verify_main")  # it runs as `__main__`

SIZES = {"cpu": ((2, 2), (30, 512), (257, 48)), "cuda": ((130, 2), (1001, 512), (2100, 48))}
"""Tokens and text tokens of the trial runs; all differ from the sizes that the package was tuned for."""
EXACT, ROUNDED = 1e-5, 5e-2
"""Maximum relative difference: if everything is float32, and if intermediate values are rounded, where another order of
summation can change the rounding. FP8 itself has an error of that size."""


def largest_difference(kind: BlockKind, device: Any, file: Path) -> float:
    """Return the package's largest difference from `run_block` over several sizes, relative to the result's norm.

    Raises:
        RuntimeError: it cannot be loaded or run, or it is another package.
    """
    package = load_package(file, device, cache_key_of(kind, device).hash)
    torch.manual_seed(0)
    block = ExportableBlock(kind)
    worst = 0.0
    with torch.no_grad():
        weights = example_weights(kind, device)
        for tokens, text in SIZES[device.type]:
            inputs = example_inputs(kind, tokens, text, device)
            expected = block(*inputs, weights).double()
            (actual,) = package([*inputs, *weights])
            difference = (actual.double() - expected).norm() / expected.norm()
            worst = max(worst, difference.item() if bool(torch.isfinite(difference)) else float("inf"))
    return worst


def verify(kind: BlockKind, device: Any, file: Path) -> float:
    """Return the difference, if it is within rounding.

    Raises:
        RuntimeError: the difference is larger, or the package cannot be run.
    """
    difference = largest_difference(kind, device, file)
    allowed = EXACT if kind.scheme == PLAIN and kind.dtype == torch.float32 else ROUNDED
    if difference > allowed:
        raise RuntimeError(f"its results differ by {difference:.2g}; rounding explains {allowed:.0e}")
    return difference


def main(arguments: list[str]) -> None:
    """Verify the package of `KIND DEVICE FILE`, and print the difference as JSON."""
    exit_with_parent()
    log_to_stderr("INFO")
    kind, device, file = kind_from_dict(json.loads(arguments[0])), torch.device(arguments[1]), Path(arguments[2])
    limit_gpu_memory(device)
    log.info("verifying")
    sys.stdout.write(json.dumps({"difference": verify(kind, device, file)}) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
