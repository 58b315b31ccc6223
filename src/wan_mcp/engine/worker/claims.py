"""Which waiting job an engine takes: the next in the queue, or one that it is better for than the other engines."""

import time
from collections.abc import Callable, Collection
from itertools import islice
from typing import Protocol

from wan_mcp.jobs.affinity import EngineInView, choose
from wan_mcp.jobs.engines_in_view import EnginesInView
from wan_mcp.jobs.evidence import Evidence
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.waiting import LOOKED_AT, Waiting, models_coming, waiting_jobs
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.settings import Settings

__all__ = ["Claims", "ClaimsOf", "JobSource"]


class JobSource(Protocol):
    """What an engine claims jobs from; see `Claims`."""

    def are_possible(self) -> bool:
        """Check whether a job waits that this engine may take."""

    @property
    def are_done(self) -> bool:
        """True if no further job will come."""

    def may_go_elsewhere(self, job: Job, devices: Collection[str]) -> bool:
        """Check whether an engine of another one of these devices may take a job that this one cannot run."""

    def next(self, loaded: LoadedModels, coming: Collection[str]) -> Job | None:
        """Claim a job, with these models loaded and those downloading; None if there is none for now."""


ClaimsOf = Callable[[Settings, JobStore, WorkerRegistry], JobSource]


class Claims:
    """The claims of one engine."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        rows: WorkerRegistry,
        only: str | None = None,
        engines: EnginesInView | None = None,
    ) -> None:
        """Claim for the engine of `settings.device`, under the identity in `rows`; with `only`, the job of that id.

        `engines` are those of the home, for one who claims for many of them.
        """
        self._only = only
        self._device = settings.device
        self._store, self._rows = store, rows
        self._other_devices = OtherDevices(settings.home, rows, Processes())
        self._engines = engines or EnginesInView(settings, store, rows)
        self._held: dict[str, float] = {}
        """Since when jobs are held back here, with nothing else to do (monotonic)."""

    def are_possible(self) -> bool:
        """Check whether a job waits that this engine may take."""
        if self._only is not None:
            waiting = [job.id for job in self._store.unfinished() if job.state is JobState.QUEUED]
            return self._only in waiting
        return self._store.has_queued(self._device, self._other_devices)

    @property
    def are_done(self) -> bool:
        """True if there is nothing to wait for: the one job of this engine is no longer in the queue."""
        return self._only is not None and not self.are_possible()

    def may_go_elsewhere(self, job: Job, devices: Collection[str]) -> bool:
        """Check whether an engine of another one of these devices may take a job that this one cannot run."""
        [evidence] = [each.evidence for each in self._store.line() if each.job.id == job.id] or [Evidence()]
        return any(not evidence.bars(device) for device in devices if device != self._device)

    def next(self, loaded: LoadedModels, coming: Collection[str]) -> Job | None:
        """Claim a job, with these models loaded; None if none waits, or if all are left to other engines.

        `coming` are the models that this engine is downloading; those that others download are waited for as well.
        """
        if not self.are_possible():
            self._held.clear()
            return None
        if self._only is not None:
            return self._store.claim(self._device, only=self._only, engine=self._rows.me(), others=self._other_devices)
        coming = {*coming, *models_coming(self._store.unfinished())}
        if not (engines := self._engines.living_but(self._device)):
            return self._store.claim(
                self._device, except_models=[*coming], engine=self._rows.me(), others=self._other_devices
            )
        devices = [self._device, *(engine.device for engine in engines)]
        line = waiting_jobs(self._store, devices, self._other_devices)
        mine = (each for each in line if self._device in each.devices and each.job.plan.model not in coming)
        me = EngineInView(self._device, 0.0, loaded)
        choice = choose(me, engines, [*islice(mine, LOOKED_AT)], self._engines.timetable(), self._held_s)
        if choice.taken is None:
            now = time.monotonic()
            self._held = {each.job.id: self._held.get(each.job.id, now) for each in choice.left}
            return None
        self._held.clear()
        return self._store.claim(
            self._device,
            only=choice.taken.job.id,
            passed=[each.job.id for each in choice.left],
            engine=self._rows.me(),
            others=self._other_devices,
        )

    def _held_s(self, waiting: Waiting) -> float:
        since = self._held.get(waiting.job.id)
        return 0.0 if since is None else time.monotonic() - since
