"""What a job would be and take, without queueing it: its plan, its time, its memory, and what has to be downloaded."""

from dataclasses import dataclass

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Fit
from wan_mcp.catalog.sizes import Resolution
from wan_mcp.jobs.turns import Asker
from wan_mcp.planning.memory_check import MemoryFit
from wan_mcp.schema.plans import Plan
from wan_mcp.service.needed_download import NeededDownload, needed_download
from wan_mcp.service.queue import Queue
from wan_mcp.settings import Settings

__all__ = ["Estimate", "Memory", "estimated"]


@dataclass(frozen=True)
class Memory:
    """A plan's memory on this machine, in bytes."""

    needed: int
    available: int
    fit: Fit | None
    """None where the check does not say."""
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
    download: NeededDownload | None
    """None if the model is here."""

    @property
    def fit(self) -> Fit | None:
        """How it fits this machine; None if that is unknown."""
        return self.memory.fit if self.memory else None

    @property
    def misfit(self) -> str | None:
        """Why it would be refused for its memory; None if it would not."""
        return self.memory.misfit if self.memory else None

    @property
    def download_bytes(self) -> int:
        """Bytes that have to be downloaded first."""
        return self.download.size if self.download else 0


def estimated(
    plan: Plan, manifest: Manifest, fit: MemoryFit | None, queue: Queue | None, settings: Settings, asker: Asker
) -> Estimate:
    """Return the estimate of a plan of `asker`; reads the table and the locks of weights. Without a table, no times."""
    ahead, seconds, wait_s = queue.outlook(plan, asker) if queue else (0, None, None)
    return Estimate(
        plan=plan,
        memory=_memory(manifest, fit) if fit else None,
        seconds=seconds,
        wait_s=wait_s,
        jobs_ahead=ahead,
        download=needed_download(manifest, settings),
    )


def _memory(manifest: Manifest, fit: MemoryFit) -> Memory:
    named = {size.name: size for size in manifest.sizes.named} if manifest.sizes else {}
    fitting = tuple((named[name], frames) for name, frames in fit.largest.items())
    return Memory(fit.needed, fit.available, fit.fit, fit.misfit, fitting)
