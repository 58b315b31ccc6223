"""What a job would be and take, without queueing it: its plan, its time, its memory, and what has to be downloaded."""

from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.sizes import Resolution
from wan_mcp.jobs.turns import Asker
from wan_mcp.planning.memory_check import MemoryFit
from wan_mcp.schema.plans import Plan
from wan_mcp.service.queue import Queue
from wan_mcp.settings import Settings
from wan_mcp.weights.installed import is_installed

__all__ = ["Estimate", "Memory", "estimated"]


@dataclass(frozen=True)
class Memory:
    """A plan's memory on this machine, in bytes."""

    needed: int
    available: int
    misfit: str | None
    """Why it does not fit, and what does, in words; None if it fits."""
    fitting: tuple[tuple[Resolution, int], ...]
    """Named sizes that fit, each with the most frames that do; empty if the plan fits."""


@dataclass(frozen=True)
class Estimate:
    """What a job would be and take."""

    plan: Plan
    memory: Memory | None
    """None where the manifest or the machine does not say."""
    seconds: float | None
    """Of the job by itself, with loading if its model is not loaded; None while nothing similar was measured."""
    wait_s: float | None
    """Until it would begin; None if unknown."""
    jobs_ahead: int
    download_bytes: int


def estimated(
    plan: Plan, manifest: Manifest, fit: MemoryFit | None, queue: Queue, settings: Settings, asker: Asker
) -> Estimate:
    """Return the estimate of a plan of `asker`; reads the job table and the locks of weights."""
    ahead, seconds, wait_s = queue.outlook(plan, asker)
    return Estimate(
        plan=plan,
        memory=_memory(manifest, fit) if fit else None,
        seconds=seconds,
        wait_s=wait_s,
        jobs_ahead=ahead,
        download_bytes=0 if is_installed(manifest, settings.home) else manifest.weights.disk_bytes,
    )


def _memory(manifest: Manifest, fit: MemoryFit) -> Memory:
    named = {size.name: size for size in manifest.sizes.named} if manifest.sizes else {}
    fitting = tuple((named[name], frames) for name, frames in fit.largest.items())
    return Memory(fit.needed, fit.available, fit.misfit, fitting)
