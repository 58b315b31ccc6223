"""The runner: runs any plan on one device, and keeps the models that it needed last.

One generation model and one captioner stay loaded. Another of the same sort replaces the former, and the
other sort's makes room where memory is short. Knows no family: see `engine.families.protocol`.
"""

import gc
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import default_shape, needed_bytes
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.engine.asked_settings import unmet_settings
from wan_mcp.engine.components.install import EMBEDDED, Installed, already_installed, install
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.device.memory import available_bytes, reachable_bytes, require_fit
from wan_mcp.engine.device.out_of_memory import MemoryGuard
from wan_mcp.engine.families.load_to_share import load_to_share, require_room
from wan_mcp.engine.families.protocol import FamilyRunner, LoadContext, Looker, SharedRunner
from wan_mcp.engine.families.registry import load_model
from wan_mcp.engine.imports import library_imports
from wan_mcp.engine.review.review import made_results, review
from wan_mcp.engine.review.room import beside_the_generator
from wan_mcp.engine.worker.reporter import EngineShutdown, Reporter
from wan_mcp.errors import HomeUnusable, JobCancelled, JobFailed, LeaseLost, OutOfSpace, UserError, WanError
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.reviews import REVIEWS_ALLOWED
from wan_mcp.schema.enums import Kind, RequestedPrecision, Stage, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.settings import Settings
from wan_mcp.text import first_line
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import is_installed
from wan_mcp.weights.lockfile import WeightsLock

if TYPE_CHECKING:
    from wan_mcp.engine.families.acceleration import Acceleration
    from wan_mcp.engine.parallel.rank_group import RankGroup

__all__ = ["ModelRunner", "build_runner"]

log = logging.getLogger(__name__)

Meeting = tuple[Path, int]
"""Where the ranks of a job meet, and their number."""
Slot = Literal["generator", "captioner"]
OTHER: dict[Slot, Slot] = {"generator": "captioner", "captioner": "generator"}


def _slot(kind: Kind) -> Slot:
    return "captioner" if kind is Kind.CAPTION else "generator"


@dataclass(frozen=True)
class _Weights:
    """Which weights are loaded, and how."""

    manifest: Manifest
    requested: RequestedPrecision
    commit: str
    """Of their repository: it changes with 'pull --update'."""


class ModelRunner:
    """The runner on torch; see `worker.loop.Runner`."""

    def __init__(
        self, settings: Settings, catalog: Catalog, *, embedded: Path = EMBEDDED, hub: Hub | None = None
    ) -> None:
        """Run models of `catalog`, which is refreshed for every job, so that manifests added since the start are seen.

        `embedded` and `hub` are other places of weights than this installation's and the environment's.

        Raises:
            JobFailed: the device of the settings does not exist.
        """
        self.device: Device = resolve_device(settings.device, settings.threads)
        self._catalog = catalog
        self._settings = settings
        self._embedded = embedded
        self._hub = hub
        self._models: dict[Slot, tuple[_Weights, FamilyRunner]] = {}
        self._acceleration: Acceleration | None = None

    def machine(self) -> Machine:
        """Return what the device can hold."""
        return self.device.machine()

    def loaded(self) -> LoadedModels:
        """Return the models that are in memory."""
        weights = {slot: weights for slot, (weights, _) in self._models.items()}
        generator, captioner = weights.get("generator"), weights.get("captioner")
        return LoadedModels(
            generator=(generator.manifest.name, generator.requested) if generator else None,
            captioner=captioner.manifest.name if captioner else None,
        )

    def device_lost(self) -> bool:
        """Check whether a GPU answers with errors only, as it does in a process after an illegal memory access."""
        try:
            self.device.finish()
        except RuntimeError:
            return True
        return False

    def needs_download(self, job: Job) -> bool:
        """Check whether a job needs a download, and downloads are allowed."""
        try:
            manifest = self._manifest(job.plan.model)
            return (
                self._settings.auto_download
                and manifest.weights.embedded is None
                and job.plan.task in manifest.family.tasks
                and not is_installed(manifest, self._settings.home)
            )
        except (WanError, OSError):
            return False  # `run` says what is wrong

    def download(self, job: Job, report: Reporter) -> None:
        """Download the weights that a job lacks, in a separate thread, while other jobs run.

        Raises:
            JobFailed, JobCancelled, LeaseLost, EngineShutdown: as `run`.
        """
        self._install(self._manifest(job.plan.model), job, report)

    def run(self, job: Job, report: Reporter) -> str | None:
        """Run a job's plan, pass its results to `report.add`, and return the caption, if any.

        Raises:
            JobFailed: the job failed; with a code and a readable reason.
            OutOfSpace: the disk is full.
            JobCancelled, LeaseLost, EngineShutdown: propagated from `report`.
        """
        return self._guarded(job, report, None)

    def most_ranks(self, job: Job, most: int) -> int:
        """See `worker.sharing.SharingRunner`."""
        runner, why = self._sharing_runner(job), "its model is not in memory, or its family cannot share jobs"
        for ranks in range(most, 1, -1) if runner is not None else ():
            assert runner is not None
            if (found := runner.unshareable(job.plan, ranks)) is None:
                return ranks
            why = found
        log.info("job %s runs on one GPU: %s", job.id, why)
        return 1

    def run_shared(self, job: Job, report: Reporter, folder: Path, ranks: int) -> str | None:
        """See `worker.sharing.SharingRunner`."""
        return self._guarded(job, report, (folder, ranks))

    def help(self, job: Job, folder: Path, rank: int, ranks: int, check: Callable[[], None]) -> None:
        """See `worker.sharing.SharingRunner`."""
        plan, runner = job.plan, self._sharing_runner(job)
        if runner is None:
            raise JobFailed("not_in_memory", f"the model of job {job.id} is not in memory")
        manifest = self._manifest(plan.model)
        self._make_room(_slot(plan.kind), runner.needed_bytes(plan.shape or default_shape(manifest)))
        try:
            with MemoryGuard(plan, manifest), self._joined(folder, rank, ranks) as group:
                runner.help(plan, group, check)
        except JobFailed as failure:
            if failure.code == "out_of_memory":
                self._recover(_slot(plan.kind))
            raise

    def load_ahead(self, job: Job, check: Callable[[], None]) -> None:
        """See `worker.load_ahead.LoadingRunner`."""
        slot, manifest = _slot(job.plan.kind), self._manifest(job.plan.model)
        requested = precision_asked(self._settings.precision, job.plan)
        weights = _Weights(manifest, requested, self._commit(manifest))
        installed = already_installed(manifest, self._settings, check, embedded=self._embedded)
        context = replace(self._context(weights, installed, slot), make_room=lambda: False, check=check)
        require_room(context, job.plan, reachable_bytes(self.device))
        self._drop(slot)
        try:
            require_room(context, job.plan, available_bytes(self.device))
            self._models[slot] = weights, load_to_share(context, job.plan)
        finally:
            self._free()

    def _joined(self, folder: Path, rank: int, ranks: int) -> "AbstractContextManager[RankGroup]":
        from wan_mcp.engine.parallel.rank_group import joined_ranks

        return joined_ranks(folder, rank, ranks, self.device.torch)

    def _sharing_runner(self, job: Job) -> SharedRunner | None:
        """Return what runs a job, if it is in memory and can share it."""
        slot, requested = _slot(job.plan.kind), precision_asked(self._settings.precision, job.plan)
        if slot not in self._models:
            return None
        weights, runner = self._models[slot]
        try:
            manifest = self._manifest(job.plan.model)
        except UserError:
            return None
        fits = weights == _Weights(manifest, requested, self._commit(manifest))
        return runner if fits and isinstance(runner, SharedRunner) else None

    def _guarded(self, job: Job, report: Reporter, meeting: "Meeting | None") -> str | None:
        plan = job.plan
        try:
            manifest = self._manifest(plan.model)
        except UserError as error:
            raise JobFailed("unknown_model", str(error)) from error
        try:
            if not self._is_made(job, report):
                with MemoryGuard(plan, manifest):
                    caption = self._run(job, manifest, report, meeting)
            else:
                caption = None
        except JobFailed as failure:
            if failure.code == "out_of_memory":
                self._recover(_slot(plan.kind))
            raise
        self._review(job, report)
        return caption

    def _is_made(self, job: Job, report: Reporter) -> bool:
        """Check whether an earlier attempt has made all results, and died while they were checked."""
        if job.reviews == 0:
            return False
        if made_results(job.artifacts, job.plan.count):
            return True
        report.replace(())  # files are gone
        return False

    def _review(self, job: Job, report: Reporter) -> None:
        """Check the results, if the plan says so. Whatever goes wrong there is a note: the results are made."""
        plan = job.plan
        if isinstance(plan, CaptionPlan) or plan.check is None:
            return
        if job.reviews >= REVIEWS_ALLOWED:
            report.note("the result was not checked: the engine died each time while it was")
            return
        try:
            report.begin_review()
            manifest = self._manifest(plan.check)
            review(plan, report.results(), manifest, self._looker(manifest, job, report), report, self._settings.home)
        except (JobCancelled, LeaseLost, EngineShutdown, OutOfSpace, HomeUnusable):
            raise
        except Exception as failure:
            if self.device_lost():
                raise
            log.warning("the results of job %s were not checked", job.id, exc_info=failure)
            why = str(failure) if isinstance(failure, WanError) else first_line(failure)
            report.note(f"the result was not checked: {why}")
            self._free()

    def _looker(self, manifest: Manifest, job: Job, report: Reporter) -> Looker:
        """Return a captioner; the model that made the results is not unloaded for it.

        Raises:
            JobFailed: it has no room, its weights are missing, or it cannot compare.
        """
        weights = _Weights(manifest, self._settings.precision, self._commit(manifest))
        loaded = self._models.get("captioner")
        if loaded is None or loaded[0] != weights:
            job = job.model_copy(
                update={"download_limit": 0, "plan": job.plan.model_copy(update={"task": Task.IMAGE_TO_TEXT})}
            )
            installed = self._install(manifest, job, report)
            self._drop("captioner")
            context = beside_the_generator(self._context(weights, installed, "captioner"))
            report.tell(f"loading {manifest.title}", slow=True)
            runner = load_model(context)
            if context.device is self.device:
                self._models["captioner"] = weights, runner
        else:
            runner = loaded[1]
        if not isinstance(runner, Looker):
            raise JobFailed("not_supported", f"'{manifest.name}' cannot compare results with prompts.")
        return runner

    def close(self) -> None:
        """End the builds, drop all models, and free their memory; this waits for converted weights to be written."""
        acceleration, self._acceleration = self._acceleration, None
        if acceleration is not None:
            acceleration.close()
        for slot in list(self._models):
            self._drop(slot)

    def _run(self, job: Job, manifest: Manifest, report: Reporter, meeting: "Meeting | None") -> str | None:
        plan = job.plan
        slot, requested = _slot(plan.kind), precision_asked(self._settings.precision, plan)
        precision, shape = self.machine().precision_of(manifest, requested), plan.shape or default_shape(manifest)
        require_fit(plan, manifest, precision, reachable_bytes(self.device))
        if slot not in self._models or self._models[slot][0] != _Weights(manifest, requested, self._commit(manifest)):
            installed = self._install(manifest, job, report)
            if not self._drop(slot):
                self._free()  # what a load that failed may have left
            self._make_room(slot, needed_bytes(manifest, precision, shape))
            report.enter(Stage.LOAD, detail=manifest.title)
            weights = _Weights(manifest, requested, self._commit(manifest))
            self._models[slot] = weights, load_model(self._context(weights, installed, slot))
        for sentence in unmet_settings(plan, manifest, self.device):
            report.note(sentence)
        _, runner = self._models[slot]
        self._make_room(slot, runner.needed_bytes(shape))
        if meeting is None or not isinstance(runner, SharedRunner):
            return runner.run(job.id, plan, report)
        folder, ranks = meeting
        with self._joined(folder, 0, ranks) as group:
            return runner.run_shared(job.id, plan, report, group)

    def _context(self, weights: _Weights, installed: Installed, slot: Slot) -> LoadContext:
        if self._acceleration is None:
            with library_imports():
                from wan_mcp.engine.families.acceleration import Acceleration
            self._acceleration = Acceleration(self._settings, self.device)
        return LoadContext(
            manifest=weights.manifest,
            weights=installed,
            device=self.device,
            requested=weights.requested,
            settings=self._settings,
            make_room=lambda: self._drop(OTHER[slot]),
            latent_rgb=self._catalog.latent_rgb.get(weights.manifest.pipeline.latent_rgb or ""),
            acceleration=self._acceleration,
        )

    def _manifest(self, model: str) -> Manifest:
        """Return the manifest of a model, as its file is now.

        Raises:
            UnknownModel, BrokenManifest: there is none that can be used.
        """
        self._catalog.refresh()
        return self._catalog.get(model)

    def _commit(self, manifest: Manifest) -> str:
        lock = None if manifest.weights.embedded else WeightsLock.read(manifest, self._settings.home)
        return lock.commit if lock is not None else ""

    def _make_room(self, slot: Slot, needed: int) -> None:
        """Free memory of the other model, or drop it, if less than `needed` bytes are available."""
        other = OTHER[slot]
        if other in self._models and available_bytes(self.device) < needed:
            self._models[other][1].forget()  # its streamed blocks, say, which may be enough
            self._free()
            if available_bytes(self.device) < needed:
                self._drop(other)

    def _recover(self, slot: Slot) -> None:
        """Free everything on the device except the weights of the model that ran out of memory."""
        self._drop(OTHER[slot])
        if slot in self._models:
            self._models[slot][1].forget()
        self._free()

    def _drop(self, slot: Slot) -> bool:
        """Drop a model; return whether there was one."""
        if slot not in self._models:
            return False
        self._models[slot][1].close()
        del self._models[slot]
        self._free()
        return True

    def _install(self, manifest: Manifest, job: Job, report: Reporter) -> Installed:
        """Return a model's weights, complete on this machine; before the stage of loading, which is timed."""
        if job.plan.task not in manifest.family.tasks:
            raise JobFailed(
                "model_broken",
                f"'{manifest.name}' is of the family '{manifest.pipeline.family}', which does not do what its tasks "
                "say; correct its manifest.",
            )
        return install(
            manifest, self._settings, report, embedded=self._embedded, hub=self._hub, limit=job.download_limit
        )

    def _free(self) -> None:
        """Free the memory of objects that are no longer referenced."""
        gc.collect()
        self.device.free_memory()


def build_runner(settings: Settings) -> ModelRunner:
    """Build the runner that `wan-mcp engine` runs: `run_engine(settings, build_runner, auto_devices)`.

    Raises:
        JobFailed: the device of the settings does not exist.
    """
    return ModelRunner(settings, Catalog.of(settings.home))
