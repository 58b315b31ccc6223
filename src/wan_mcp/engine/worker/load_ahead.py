"""What an idle engine does while another one runs a job: it loads the job's model, to join the next job of it."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Protocol, runtime_checkable

from wan_mcp.catalog.presets import precision_asked
from wan_mcp.engine.worker.reporter import EngineShutdown
from wan_mcp.jobs.gpus_per_job import GpusPerJob
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.orphans import engines_on
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.waiting import computing
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import RequestedPrecision
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.settings import Settings
from wan_mcp.text import first_line

__all__ = ["LoadAhead", "LoadingRunner"]

log = logging.getLogger(__name__)

IN_A_ROW = 2
"""Running jobs of one model after which an engine gives up another one that it has in memory for it."""
REMEMBERED = 16
"""Jobs of other engines, the latest ones."""
Wanted = tuple[str, RequestedPrecision]


@runtime_checkable
class LoadingRunner(Protocol):
    """A runner that can load a model without a job of its own."""

    def loaded(self) -> LoadedModels:
        """Return the models in memory."""

    def device_lost(self) -> bool:
        """Check whether the device is unusable in this process."""

    def load_ahead(self, job: Job, check: Callable[[], None]) -> None:
        """Load the model of a job that another engine runs; `check` raises if the load should stop.

        Raises:
            JobFailed: there is no room for it besides the captioner, or this engine could not join such a job with it.
        """


class LoadAhead:
    """What one engine loads ahead, and what it does not try again."""

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        rows: WorkerRegistry,
        leaving: Callable[[], bool],
        claimable: Callable[[], bool],
    ) -> None:
        """Load for the engine of `settings.device`; `claimable` says whether a job waits that it may take."""
        self._settings, self._store, self._rows = settings, store, rows
        self._leaving, self._claimable = leaving, claimable
        self._policy = GpusPerJob(settings, store, rows)
        self._failed: set[Wanted] = set()
        self._seen: list[tuple[str, Wanted]] = []
        """The jobs of other engines since the last one of this engine, with their models."""
        self._ready_for: str | None = None
        """The job for which a model was loaded ahead."""

    def forget_others(self) -> None:
        """Note a job of this engine: what others ran before it says little about the next ones."""
        self._seen = []

    def look(self, runner: object) -> bool:
        """Load a model ahead if one is wanted; return whether the job for which this was done runs."""
        running = computing(self._store.unfinished())
        if not running or not isinstance(runner, LoadingRunner):
            return False
        self._note(running.values())
        jobs = self._policy.to_get_ready_for()
        if any(job.id == self._ready_for for job in jobs):
            return True
        loaded = runner.loaded().generator
        job = next((job for job in jobs if self._may_load(job, loaded) and self._is_needed(job)), None)
        return job is not None and self._load(job, runner)

    def _note(self, running: Iterable[Job]) -> None:
        seen = {job_id for job_id, _ in self._seen}
        new = (job for job in running if job.id not in seen and not isinstance(job.plan, CaptionPlan))
        self._seen = [*self._seen, *((job.id, self._wanted(job)) for job in new)][-REMEMBERED:]

    def _wanted(self, job: Job) -> Wanted:
        return job.plan.model, precision_asked(self._settings.precision, job.plan)

    def _may_load(self, job: Job, loaded: Wanted | None) -> bool:
        """Check whether a job's model is another than the one in memory, and which of both is worth more."""
        wanted = self._wanted(job)
        if wanted == loaded or wanted in self._failed:
            return False
        return loaded is None or [model for _, model in self._seen[-IN_A_ROW:]] == [wanted] * IN_A_ROW

    def _is_needed(self, job: Job) -> bool:
        """Check whether this engine is among the first ones that are missing for the most GPUs of such a job."""
        me, wanted = self._settings.device, self._wanted(job)
        busy = computing(self._store.unfinished())
        have, lack = 1, []  # the first is the job's own
        for device in engines_on(self._settings.home, self._rows, Processes()):
            row = self._rows.get(device)
            if device in busy or row is None or not self._policy.may_join(job, device):
                continue
            if row.loaded.generator == wanted:
                have += 1
            else:
                lack.append(device)
        return me in lack[: max(0, self._policy.most(job, have + len(lack)) - have)]

    def _load(self, job: Job, runner: LoadingRunner) -> bool:
        model = job.plan.model

        def alive() -> None:
            until = time.monotonic() + self._settings.load_deadline_s
            self._rows.heartbeat(self._settings.device, until, runner.loaded())

        def check() -> None:
            if self._leaving() or self._claimable():
                raise EngineShutdown
            alive()

        began = time.monotonic()
        log.info("loading %s ahead, to join the job after %s", model, job.id)
        try:
            check()
            runner.load_ahead(job, check)
        except EngineShutdown:
            log.info("%s is not loaded ahead: this engine has other things to do", model)
            return False
        except Exception as failure:
            if runner.device_lost():
                raise
            self._failed.add(self._wanted(job))
            log.warning("%s is not loaded ahead: %s", model, first_line(failure))
            return False
        finally:
            alive()
        self._ready_for = job.id
        log.info("%s loaded ahead in %.1f s", model, time.monotonic() - began)
        return True
