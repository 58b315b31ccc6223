"""What a compiled package depends on: two packages of one identity are interchangeable, others never are.

How a block attends to itself is no part of it: the package calls the operator `wan_mcp::attend_self`, or in FP8 on CUDA
`wan_mcp::attend_rows`, which picks its kernel when it runs. Nor are weights, their number and the picture's size: all
of them are inputs.
"""

import hashlib
import json
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from wan_mcp.engine import blocks
from wan_mcp.engine.blocks.block import BlockKind
from wan_mcp.engine.blocks.shape import BlockShape

__all__ = ["FLAGS", "Identity", "facts_of_kind", "identity_of", "kind_of_facts", "known_flags"]

LAYOUT = 2
"""Of the package's inputs and of its sidecar; raise it when either changes."""
FLAGS: dict[str, Any] = {
    # Weights are inputs, so there are no constants to put anywhere.
    "aot_inductor.package_constants_in_so": False,
    # The example's sizes are no bounds: one frame of a small picture runs too.
    "aot_inductor.check_lowerbound": False,
    # Each is read by one file: making them first takes longer (12 s for 3), and they are left behind in /tmp.
    "aot_inductor.precompile_headers": False,
}
"""What Inductor is told beside its own defaults."""
SOURCES = ("block.py", "linear.py", "rows.py", "kernels.py", "self_attention.py")
"""The files whose change makes a package stale."""


@dataclass(frozen=True)
class Identity:
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


def facts_of_kind(kind: BlockKind) -> dict[str, Any]:
    """A kind as plain values; `kind_of_facts` reads them."""
    return {"shape": asdict(kind.shape), "recipe": kind.recipe, "dtype": str(kind.dtype).removeprefix("torch.")}


def kind_of_facts(facts: dict[str, Any]) -> BlockKind:
    """The kind that `facts_of_kind` wrote down."""
    return BlockKind(BlockShape(**facts["shape"]), facts["recipe"], getattr(torch, facts["dtype"]))


@cache
def identity_of(kind: BlockKind, device: Any) -> Identity:
    """The identity of the package that runs blocks of this kind on this `torch.device`."""
    facts = {
        "layout": LAYOUT,
        "torch": torch.__version__,
        "torch_commit": torch.version.git_version,
        "machine": platform.machine(),
        "device": _facts_of_device(device),
        "source": _source(),
        "kind": facts_of_kind(kind),
        "flags": FLAGS,
    }
    return Identity(json.dumps(facts, sort_keys=True))


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
def _source() -> str:
    """SHA-256 over the block's arithmetic and the way it is exported."""
    here = Path(__file__).parent
    folder = Path(blocks.__file__).parent
    files = [file for name in SOURCES if (file := folder / name).is_file()]
    total = hashlib.sha256()
    files += [here.parent / "attention" / name for name in ("text.py", "text_kernel.py")]
    for file in (*files, here / "compiling.py", here / "inputs.py"):
        total.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()
