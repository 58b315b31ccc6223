"""What a compiled package depends on: two packages of one identity are interchangeable, others never are.

How a block attends to itself is no part of it: the package calls the operator `wan_mcp::attend_self`, or in FP8 on CUDA
`wan_mcp::fused_self_attention`, which picks its kernel when it runs. Nor are weights, their number and the picture's
size: all of them are inputs.
"""

import hashlib
import json
import platform
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from wan_mcp.engine import attention
from wan_mcp.engine.aot import signature as inputs
from wan_mcp.engine.attention import cross_attention as text
from wan_mcp.engine.attention import custom_op as operator
from wan_mcp.engine.ops import fp8_linear as linear
from wan_mcp.engine.ops import modulate as rows
from wan_mcp.engine.transformer import block, self_attention
from wan_mcp.engine.transformer import config as shape
from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.config import BlockShape

__all__ = [
    "FLAGS",
    "SOURCES",
    "CacheKey",
    "cache_key_of",
    "hash_of_sources",
    "kind_from_dict",
    "kind_to_dict",
    "known_flags",
]

LAYOUT = 3
"""Of the package's inputs and of its metadata; raise it when either changes."""
FLAGS: dict[str, Any] = {
    # Weights are inputs, so there are no constants to put anywhere.
    "aot_inductor.package_constants_in_so": False,
    # The example's sizes are no bounds: one frame of a small picture runs too.
    "aot_inductor.check_lowerbound": False,
    # Each is read by one file: making them first takes longer (12 s for 3), and they are left behind in /tmp.
    "aot_inductor.precompile_headers": False,
}
"""What Inductor is told beside its own defaults."""
# In: all code that the export traces, what the custom operators promise about their results (the shapes and strides of
# `register_fake`, in `operator` and `self_attention`, are compiled into a package), and the export and its inputs. Out:
# what runs inside the custom operators, since a package calls them by name and so always runs the code of today; and
# what only logs, ends processes, limits memory or reads and writes the facts of this module.
SOURCES = (
    *(module.__name__ for module in (attention, operator, text)),
    *(module.__name__ for module in (block, linear, rows, self_attention, shape, inputs)),
    # By name: kernels can be imported only where Triton is, and the compiling process imports this module.
    "wan_mcp.engine.attention.cross_attention_triton",
    "wan_mcp.engine.ops.modulate_triton",
    "wan_mcp.engine.aot.compile_main",
)
"""The modules whose change makes a package stale."""


@dataclass(frozen=True)
class CacheKey:
    """Facts, as plain values, and their hash."""

    text: str
    """The facts as JSON with sorted keys."""

    @property
    def facts(self) -> dict[str, Any]:
        """What the package depends on, by name."""
        return dict(json.loads(self.text))

    @property
    def hash(self) -> str:
        """32 hexadecimal digits; the name of the package's files."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def known_flags() -> dict[str, Any]:
    """Those of `FLAGS` that this version of torch has."""
    from torch._inductor import config  # seconds, and only who compiles needs it

    known = config.get_config_copy()
    return {name: value for name, value in FLAGS.items() if name in known}


def kind_to_dict(kind: BlockKind) -> dict[str, Any]:
    """A kind as plain values; `kind_from_dict` reads them."""
    return {"shape": asdict(kind.shape), "recipe": kind.recipe, "dtype": str(kind.dtype).removeprefix("torch.")}


def kind_from_dict(facts: dict[str, Any]) -> BlockKind:
    """The kind that `kind_to_dict` wrote down."""
    return BlockKind(BlockShape(**facts["shape"]), facts["recipe"], getattr(torch, facts["dtype"]))


@cache
def cache_key_of(kind: BlockKind, device: Any) -> CacheKey:
    """The identity of the package that runs blocks of this kind on this `torch.device`."""
    facts = {
        "layout": LAYOUT,
        "torch": torch.__version__,
        "torch_commit": torch.version.git_version,
        "machine": platform.machine(),
        "device": _facts_of_device(device),
        "source": _hash_of_own_sources(),
        "kind": kind_to_dict(kind),
        "flags": FLAGS,
    }
    return CacheKey(json.dumps(facts, sort_keys=True))


def _facts_of_device(device: Any) -> dict[str, Any]:
    if device.type == "cpu":
        return {"type": "cpu", "isa": torch.backends.cpu.get_cpu_capability(), "features": _cpu_features()}
    return {
        "type": device.type,
        "capability": torch.cuda.get_device_capability(device),
        "cuda": torch.version.cuda,
        "hip": torch.version.hip,
        "triton": _version("triton"),
    }


def _cpu_features() -> list[str]:
    """The instruction sets of this CPU: Inductor uses the widest, and a CPU without it would die of it."""
    ask = getattr(torch.cpu, "get_capabilities", None)
    found = ask() if ask is not None else {}
    return sorted(name for name, there in found.items() if there is True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


@cache
def _hash_of_own_sources() -> str:
    return hash_of_sources(SOURCES)


def hash_of_sources(modules: Iterable[str]) -> str:
    """Return the SHA-256 over the names and the source text of modules, in whatever order and folder they are.

    No module is imported for it, only the packages that hold it.

    Raises:
        RuntimeError: a module has no source file that can be read; without it, a change would go unnoticed.
    """
    total = hashlib.sha256()
    for name in sorted(modules):
        total.update(f"{name} {hashlib.sha256(_source_of(name)).hexdigest()}\n".encode())
    return total.hexdigest()


def _source_of(module: str) -> bytes:
    try:
        spec = find_spec(module)
        if spec is not None and spec.has_location and spec.origin is not None:
            return Path(spec.origin).read_bytes()
        reason = "there is no such module"
    except (ImportError, OSError) as error:
        reason = str(error)
    raise RuntimeError(
        f"The source of {module} cannot be read, and compiled packages depend on it: {reason}. Install wan-mcp again."
    )
