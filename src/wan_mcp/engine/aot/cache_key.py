"""The cache key of a compiled package: packages with equal keys are interchangeable.

The attention kernel is not part of the key: the package calls the custom op `wan_mcp::attend_self`, or in FP8 on CUDA
`wan_mcp::fused_self_attention`, which selects its kernel at run time. Neither are weights, the number of blocks and the
image size, which are inputs or not part of a block.
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
"""Version of the package's inputs and metadata; increase it if either changes."""
FLAGS: dict[str, Any] = {
    # Weights are inputs, so there are no constants to place.
    "aot_inductor.package_constants_in_so": False,
    # The example's sizes are not bounds: one frame of a small image runs too.
    "aot_inductor.check_lowerbound": False,
    # Each would be read by one file only: precompiling takes longer (12 s for 3) and leaves files in /tmp.
    "aot_inductor.precompile_headers": False,
}
"""Inductor options that differ from its defaults."""
# Included: all code that the export traces, the metadata of custom ops (shapes and strides of `register_fake`, in
# `custom_op` and `self_attention`, are compiled into a package), and the export and its inputs. Excluded: the code
# inside custom ops, since a package calls them by name and so always runs the current code; and code that only logs,
# ends processes, limits memory or reads and writes the facts of this module.
SOURCES = (
    *(module.__name__ for module in (attention, operator, text)),
    *(module.__name__ for module in (block, linear, rows, self_attention, shape, inputs)),
    # By name: Triton kernels cannot be imported without Triton, and the compiling process imports this module.
    "wan_mcp.engine.attention.cross_attention_triton",
    "wan_mcp.engine.ops.modulate_triton",
    "wan_mcp.engine.aot.compile_main",
)
"""The modules whose changes make a package stale."""


@dataclass(frozen=True)
class CacheKey:
    """Facts, as plain values, and their hash."""

    text: str
    """The facts as JSON with sorted keys."""

    @property
    def facts(self) -> dict[str, Any]:
        """Return the facts that the package depends on, by name."""
        return dict(json.loads(self.text))

    @property
    def hash(self) -> str:
        """Return 32 hexadecimal digits: the name of the package's files."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:32]


def known_flags() -> dict[str, Any]:
    """Return those of `FLAGS` that this version of torch has."""
    from torch._inductor import config  # takes seconds to import, and only compilation needs it

    known = config.get_config_copy()
    return {name: value for name, value in FLAGS.items() if name in known}


def kind_to_dict(kind: BlockKind) -> dict[str, Any]:
    """Return a kind as plain values, for `kind_from_dict`."""
    return {"shape": asdict(kind.shape), "recipe": kind.scheme, "dtype": str(kind.dtype).removeprefix("torch.")}


def kind_from_dict(facts: dict[str, Any]) -> BlockKind:
    """Return the kind from the values of `kind_to_dict`."""
    return BlockKind(BlockShape(**facts["shape"]), facts["recipe"], getattr(torch, facts["dtype"]))


@cache
def cache_key_of(kind: BlockKind, device: Any) -> CacheKey:
    """Return the cache key of the package for blocks of this kind on this `torch.device`."""
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
    """Return this CPU's instruction sets: Inductor uses the widest, which would crash on a CPU without it."""
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
    """Return the SHA-256 over the names and source text of modules, independent of their order and folder.

    The modules are not imported, only the packages that contain them.

    Raises:
        RuntimeError: a module has no readable source file, so a change would go unnoticed.
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
