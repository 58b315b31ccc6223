"""What this machine's processor says of itself."""

import platform
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

__all__ = ["Processor", "processor"]

CPUINFO = Path("/proc/cpuinfo")
SIGNATURE = ("cpu family", "model", "stepping")


@dataclass(frozen=True)
class Processor:
    """A processor; what it does not say is empty."""

    name: str
    """E.g. `AMD EPYC 9755 128-Core Processor`."""
    vendor: str = ""
    """E.g. `GenuineIntel`, as the instruction CPUID gives it."""
    signature: str = ""
    """Family, model and stepping, e.g. `26-2-1`: virtual machines often give models that differ the same name."""
    flags: frozenset[str] = frozenset()
    """Instruction sets by their names in Linux, e.g. `avx2`."""


@cache
def processor() -> Processor:
    """Return the processor of this machine, the first one where there are several."""
    facts: dict[str, str] = {}
    with suppress(OSError), CPUINFO.open(encoding="utf-8") as lines:  # only Linux has it
        for line in takewhile(str.strip, lines):  # the first of many cores: each costs the kernel time
            name, _, value = line.partition(":")
            facts[name.strip()] = value.strip()
    return Processor(
        name=facts.get("model name") or platform.processor() or platform.machine(),
        vendor=facts.get("vendor_id", ""),
        signature="-".join(facts[part] for part in SIGNATURE if part in facts),
        flags=frozenset(facts.get("flags", "").split()),
    )
