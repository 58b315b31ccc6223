"""Reproducible arithmetic on a CPU: the same numbers give the same bits, wherever they lie in memory.

MKL multiplies matrices for torch. On processors for which it has no kernels of their own it looks at the alignment of
its operands and takes another path, unless its conditional numerical reproducibility (CNR) is on. Weights begin at
another address whenever they come from a file, are copied or are streamed, so without CNR the same request can give
other frames.

MKL reads the mode from the environment when it is first used. `wan_mcp.engine` calls `enable` before any module that
imports torch. Why these modes, and what they cost: docs/decisions/0011-reproducible-cpu-arithmetic.md.
"""

import ctypes
import logging
import os
from functools import cache
from pathlib import Path

from wan_mcp.hardware.processor import Processor, processor

__all__ = ["arithmetic", "enable", "mkl_mode", "mode_for"]

log = logging.getLogger(__name__)

VARIABLE = "MKL_CBWR"
OFF = 1
BRANCHES = {
    OFF: "off",
    2: "AUTO",
    3: "COMPATIBLE",
    4: "SSE2",
    6: "SSSE3",
    7: "SSE4_1",
    8: "SSE4_2",
    9: "AVX",
    10: "AVX2",
    12: "AVX512",
    14: "AVX512_E1",
}
"""The constants MKL_CBWR_… ("Named Constants for CNR Control" in the Developer Reference of oneMKL)."""
BRANCH, BRANCH_AND_FLAGS = 1, -1
"""What `mkl_cbwr_get` can be asked for."""
OF_LIBRARIES = (
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_MAX_CPU_ISA",
    "DNNL_MAX_CPU_ISA",
    "ONEDNN_CPU_ISA_HINTS",
    "DNNL_CPU_ISA_HINTS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "DNNL_DEFAULT_FPMATH_MODE",
)
"""Variables with which a user has the libraries compute in another way."""


def enable() -> None:
    """Turn CNR on for this process and those that it starts, unless the environment names a mode.

    A user's own mode stays: all that MKL accepts are reproducible, and it takes an unknown one for `AUTO`. Only an
    empty value is off, and counts as none here.
    """
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = mode_for(processor())


def mode_for(found: Processor) -> str:
    """Return the mode that costs nothing on this processor.

    On Intel's that is the widest branch they have; with STRICT, matrix products do not depend on the number of threads
    either. On others MKL does not promise a branch beyond `AUTO`; there AVX2 was seen to be as quick as no mode.
    """
    if found.vendor != "GenuineIntel":
        return "AVX2"
    return "AVX512,STRICT" if "avx512bw" in found.flags else "AVX2,STRICT"


@cache
def mkl_mode() -> str | None:
    """Return the mode that MKL uses in this process, e.g. `AVX2,STRICT`, `AUTO` or `off`; None without MKL.

    MKL is asked, and not the environment: it uses `AUTO` where it does not offer a branch on this processor, and
    ignores what is set after its first use. The log says so if it is off. Call this when torch may be loaded.
    """
    import torch

    if not torch.backends.mkl.is_available():
        return None
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    except OSError:
        return None
    # A torch that contains MKL has the function under the second name.
    ask = getattr(library, "mkl_cbwr_get", None) or getattr(library, "mkl_serv_cbwr_get", None)
    if ask is None:
        return None
    branch, with_flags = int(ask(BRANCH)), int(ask(BRANCH_AND_FLAGS))
    if branch == OFF:
        log.warning(
            "MKL was used in this process before wan_mcp.engine was imported, so results depend on where numbers lie "
            "in memory: the same request can give other frames. Import wan_mcp.engine first, or set %s=%s in the "
            "environment.",
            VARIABLE,
            mode_for(processor()),
        )
    return BRANCHES.get(branch, str(branch)) + (",STRICT" if with_flags != branch else "")


def arithmetic() -> list[str]:
    """Return what decides the last bits of a CPU's results besides the processor and the number of threads."""
    mode = mkl_mode()
    own = [f"{name}={value}" for name in OF_LIBRARIES if (value := os.environ.get(name))]
    return ([f"MKL {mode}"] if mode else []) + own
