"""Build and load a one-line package, in the process `python -m wan_mcp.engine.aot.compiler_probe_main FILE`.

A C++ compiler that does not match torch builds packages that crash the process when they are loaded, so the check needs
a separate process.
"""

import sys
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from wan_mcp.engine.aot.cache_key import known_flags
from wan_mcp.engine.aot.child_process import exit_with_parent

__all__ = ["probe_compiler"]

SCALAR = {"cpp.vec_isa_ok": False}
"""Inductor tries every instruction set that the CPU has with a compilation each, which takes 12 s in a new cache. The
check is about loading, so its package uses none of them."""


class _OneLine(nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return numbers + 1


def probe_compiler(file: Path) -> None:
    """Write a package to `file`, load it and run it.

    Raises:
        RuntimeError, or another exception of the compiler.
    """
    with torch.no_grad():
        program = torch.export.export(_OneLine(), (torch.zeros(4),), strict=False)
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(file), inductor_configs=known_flags() | SCALAR
        )
        loader = torch._C._aoti.AOTIModelPackageLoader(str(file), "model", False, 1, -1)
        (result,) = loader.boxed_run([torch.zeros(4)])
    if not torch.equal(result, torch.ones(4)):
        raise RuntimeError(f"the package computed 0 + 1 = {result.tolist()}")


if __name__ == "__main__":
    exit_with_parent()
    warnings.simplefilter("ignore", FutureWarning)
    probe_compiler(Path(sys.argv[1]))
