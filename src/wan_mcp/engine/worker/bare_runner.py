"""The base of runners that load no model: what the loop asks of a runner besides to run a plan.

A Space on ZeroGPU refuses jobs with one, and soaks and tests have engines of such runners. Does not import torch.
"""

from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.schema.jobs import Job

__all__ = ["BareRunner"]


class BareRunner:
    """A runner without a device, models and downloads."""

    def machine(self) -> None:
        """Return none: it has no device."""

    def loaded(self) -> LoadedModels:
        """Return none."""
        return LoadedModels()

    def device_lost(self) -> bool:
        """Return false: it has no device to lose."""
        return False

    def needs_download(self, job: Job) -> bool:
        """Return false: it needs no weights."""
        return False

    def download(self, job: Job, report: Reporter) -> None:
        """Do nothing; it is never asked to."""

    def close(self) -> None:
        """Do nothing: it has no processes, and no memory to free."""
