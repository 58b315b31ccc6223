"""How many GPUs may work on a job, and which running jobs other engines get ready for, so that they can join the next.

See docs/decisions/0052-idle-engines-lend-their-gpu.md.
"""

from functools import cached_property

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.memory_fit import Fit, default_shape, fit_of
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.errors import UserError
from wan_mcp.jobs.cluster_devices import is_cluster_device
from wan_mcp.jobs.other_devices import asked_devices
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.waiting import computing
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan, VideoPlan
from wan_mcp.settings import Settings

__all__ = ["MIN_STEP_S", "GpusPerJob"]

MIN_STEP_S = 1.0
"""Seconds of a step below which `auto` leaves a job to one GPU: agreement would cost more than sharing saves."""
KEPT = 64
"""Running jobs of which is remembered whether they can be shared."""
MODEL_IN_USE = (Stage.ENCODE, Stage.DENOISE, Stage.DECODE, Stage.WRITE, Stage.REVIEW)


class GpusPerJob:
    """The setting, and what it means for the jobs of a home."""

    def __init__(self, settings: Settings, store: JobStore, rows: WorkerRegistry) -> None:
        self._settings, self._store, self._rows = settings, store, rows
        self._timings = Timings(store.database)
        self._judged: dict[str, bool] = {}
        """Whether running jobs can be shared, by their ids."""

    @cached_property
    def _catalog(self) -> Catalog:
        """The models; they are read only where a job can have several GPUs."""
        return Catalog.of(self._settings.home)

    def most(self, job: Job, engines: int) -> int:
        """Return how many of `engines` GPUs the setting, or the queue and the measured times, allow a claimed job."""
        setting = self._settings.gpus_per_job
        if setting == "all":
            return engines
        if setting != "auto":
            return min(int(setting), engines)
        step_s = self._step_s(job)
        if step_s is None or step_s < MIN_STEP_S:
            return 1
        waiting = sum(other.state is JobState.QUEUED for other in self._store.unfinished())
        return engines - waiting  # each of the others starts on a GPU of its own

    def _step_s(self, job: Job) -> float | None:
        """Return the seconds of a step on one GPU: measured in other jobs, or else seen in this one so far."""
        work = stage_work(job.plan).get(Stage.DENOISE)
        if work is None or job.device is None:
            return None
        measured = self._timings.seconds(job.device, job.plan.model, Stage.DENOISE, work, on_one_gpu=True)
        if measured is not None or (seen := job.progress) is None:
            return measured
        if seen.stage is not Stage.DENOISE or not seen.step or seen.eta_s is None:
            return None
        steps = seen.steps or seen.step
        left = (seen.items - seen.item + 1) * steps - seen.step
        return seen.eta_s / (left + 1)  # the last of them stands for later stages

    def to_get_ready_for(self) -> list[Job]:
        """Return the running jobs whose models other engines should load, as far as is known; none while jobs wait."""
        if self._settings.gpus_per_job == "1":
            return []
        unfinished = self._store.unfinished()
        if any(job.state is JobState.QUEUED for job in unfinished):
            return []
        return [job for job in computing(unfinished).values() if self._uses_its_model(job) and self._is_shareable(job)]

    def may_join(self, job: Job, device: str) -> bool:
        """Check whether the engine of a device may work on a running job, if its machine is known to be the same."""
        asked = asked_devices(job)
        machine = self._rows.machine(device)
        if is_cluster_device(device):  # it is not on this machine
            return False
        alike = machine is None or machine == self._rows.machine(job.device or "")
        return alike and device != job.device and (not asked or device in asked)

    def _uses_its_model(self, job: Job) -> bool:
        return job.progress is not None and job.progress.stage in MODEL_IN_USE

    def _is_shareable(self, job: Job) -> bool:
        if job.id not in self._judged:
            if len(self._judged) >= KEPT:
                self._judged.clear()
            self._judged[job.id] = self._judge(job)
        return self._judged[job.id]

    def _judge(self, job: Job) -> bool:
        """Check whether engines with the model in memory could share jobs like this one, by what fronts know."""
        plan = job.plan
        if isinstance(plan, CaptionPlan) or plan.step_cache is not None:
            return False
        if isinstance(plan, VideoPlan) and (plan.shots or plan.extends is not None):
            return False
        try:
            self._catalog.refresh()
            manifest = self._catalog.get(plan.model)
        except UserError:
            return False
        if not manifest.family.capabilities.shared:
            return False
        machine = self._rows.machine(job.device or "")
        if machine is None or machine.memory is None:
            return True
        precision = machine.precision_of(manifest, precision_asked(self._settings.precision, plan))
        return fit_of(manifest, machine.memory, precision, plan.shape or default_shape(manifest)) is Fit.RESIDENT
