"""What the engine of an actor claims: the jobs that were handed to it, in their order."""

from collections.abc import Collection

from wan_mcp.jobs.handed import HandedJobs
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.jobs import Job

__all__ = ["HandedClaims"]


class HandedClaims:
    """See `engine.worker.claims.JobSource`."""

    def __init__(self, handed: HandedJobs, device: str, store: JobStore, rows: WorkerRegistry) -> None:
        """Claim from `handed` for the engine of `device`."""
        self._handed, self._device, self._store, self._rows = handed, device, store, rows

    def are_possible(self) -> bool:
        """Check whether a job waits."""
        return bool(self._handed.queued())

    @property
    def are_done(self) -> bool:
        """False: another job may come at any time."""
        return False

    def may_go_elsewhere(self, job: Job, devices: Collection[str]) -> bool:
        """Return false: the dispatcher decides what becomes of a job that is too large for this device."""
        return False

    def next(self, loaded: LoadedModels, coming: Collection[str]) -> Job | None:
        """Claim the job that came first and whose weights are not being downloaded; None if there is none."""
        for job in self._handed.queued():
            if job.plan.model not in coming:
                return self._store.claim(self._device, only=job.id, engine=self._rows.me())
        return None
