"""The runner: runs any plan on one device, and keeps the models that it needed last.

One generation model and one captioner stay loaded; another of the same sort takes the place of the
former, and a captioner goes before weights of a generation model have to come from main memory.
Families are imported when a job first needs them: each costs a second or two.
"""

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import default_shape, needed_bytes
from wan_mcp.catalog.presets import precision_asked
from wan_mcp.engine.components.install import EMBEDDED, Installed, install
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.device.memory import available_bytes, reachable_bytes
from wan_mcp.engine.device.out_of_memory import MemoryGuard
from wan_mcp.engine.families.wan.memory_plan import job_bytes, memory_plan, require_fit
from wan_mcp.engine.imports import library_imports
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import JobFailed, UserError, WanError
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import Kind, RequestedPrecision, Stage, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan, ImagePlan, VideoPlan
from wan_mcp.settings import Settings
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import is_installed
from wan_mcp.weights.lockfile import WeightsLock

if TYPE_CHECKING:
    from wan_mcp.engine.components.prompt_cache import PromptEmbeddings
    from wan_mcp.engine.families.acceleration import Acceleration
    from wan_mcp.engine.families.caption.captioner import Captioner
    from wan_mcp.engine.families.image.pipeline import ImageRunner
    from wan_mcp.engine.families.wan.pipeline import WanRunner

__all__ = ["ModelRunner", "build_runner"]

log = logging.getLogger(__name__)


class ModelRunner:
    """The runner on torch; see `process.Runner`."""

    def __init__(
        self,
        settings: Settings,
        catalog: Catalog,
        media: MediaStore,
        *,
        embedded: Path = EMBEDDED,
        hub: Hub | None = None,
    ) -> None:
        """`catalog` is refreshed for every job, so that manifests added since the start are seen.

        `embedded` and `hub` are other places of weights than this installation's and the environment's.

        Raises:
            JobFailed: the device of the settings does not exist.
        """
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.device: Device = resolve_device(settings.device)
        self._catalog = catalog
        self._media = media
        self._settings = settings
        self._embedded = embedded
        self._hub = hub
        self._generator: tuple[tuple[Manifest, RequestedPrecision, str], Any] | None = (
            None  # a WanRunner or a ImageRunner
        )
        self._blocks_move = False  # those of the generator
        self._captioner: tuple[Manifest, Captioner] | None = None
        self._acceleration: Acceleration | None = None

    def machine(self) -> Machine:
        """What the device can hold."""
        return self.device.machine()

    def loaded(self) -> LoadedModels:
        """Which models are in memory."""
        generator = captioner = None
        if self._generator is not None:
            manifest, asked, _ = self._generator[0]
            generator = manifest.name, asked
        if self._captioner is not None:
            captioner = self._captioner[0].name
        return LoadedModels(generator=generator, captioner=captioner)

    def device_lost(self) -> bool:
        """Whether a GPU gives only errors any more, as all calls of a process do after a kernel that went astray."""
        try:
            self.device.finish()
        except RuntimeError:
            return True
        return False

    def needs_download(self, job: Job) -> bool:
        """Whether a job has to wait for a download, and may."""
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
        """Bring the weights that a job lacks; in a thread of its own, while other jobs run.

        Raises:
            JobFailed, JobCancelled, LeaseLost, EngineShutdown: as `run`.
        """
        self._install(self._manifest(job.plan.model), job.plan.task, report)

    def run(self, job: Job, report: Reporter) -> str | None:
        """Run a job's plan, hand its results to `report.add`, and give the caption if it makes one.

        Raises:
            JobFailed: it cannot be done; with a code and a reason for people.
            OutOfSpace: the disk is full.
            JobCancelled, LeaseLost, EngineShutdown: from `report`, passed on.
        """
        plan = job.plan
        try:
            manifest = self._manifest(plan.model)
        except UserError as error:
            raise JobFailed("unknown_model", str(error)) from error
        try:
            with MemoryGuard(plan, manifest):
                if isinstance(plan, CaptionPlan):
                    return self._caption(plan, manifest, report)
                self._generate(job.id, plan, manifest, report)
                return None
        except JobFailed as failure:
            if failure.code == "out_of_memory":
                self._recover(plan.kind)
            raise

    def _generate(self, job_id: str, plan: VideoPlan | ImagePlan, manifest: Manifest, report: Reporter) -> None:
        asked, shape = precision_asked(self._settings.precision, plan), plan.shape
        precision = self.machine().precision_of(manifest, asked)
        require_fit(plan, manifest, precision, reachable_bytes(self.device))
        if self._generator is None or self._generator[0] != (manifest, asked, self._commit(manifest)):
            weights = self._install(manifest, plan.task, report)
            self._let_generator_go()
            self._free()
            self._make_room(plan.kind, needed_bytes(manifest, precision, shape))
            report.enter(Stage.LOAD, detail=manifest.title)
            key = (manifest, asked, self._commit(manifest))
            self._generator = (key, self._load_generator(manifest, weights, asked))
        generator = self._generator[1]
        working = job_bytes(manifest, precision, shape, blocks_move=self._blocks_move)
        self._make_room(plan.kind, working - generator.evictable_bytes)
        generator.run(job_id, plan, report)

    def _manifest(self, model: str) -> Manifest:
        """The manifest of a model, as its file is now.

        Raises:
            UnknownModel, BrokenManifest: there is none that can be used.
        """
        self._catalog.refresh()
        return self._catalog.get(model)

    def _commit(self, manifest: Manifest) -> str:
        """Which state of its repository a model's weights are: another one once 'pull --update' has brought it."""
        lock = None if manifest.weights.embedded else WeightsLock.read(manifest, self._settings.home)
        return lock.commit if lock is not None else ""

    def _make_room(self, kind: Kind, needed: int) -> None:
        """Let the model of the other sort go if a job of this kind has less than `needed` bytes beside it."""
        if kind is Kind.CAPTION and self._generator is not None:
            if available_bytes(self.device) < needed:
                self._generator[1].forget()  # its streamed blocks, which may be enough
                self._free()
            if available_bytes(self.device) < needed:
                self._let_generator_go()
                self._free()
        elif kind is not Kind.CAPTION and available_bytes(self.device) < needed:
            self._let_captioner_go()

    def _recover(self, kind: Kind) -> None:
        """Leave nothing on the device but the weights of the model that a job of this kind ran out of memory with."""
        if kind is Kind.CAPTION:
            self._let_generator_go()
        else:
            self._captioner = None
        if self._generator is not None:
            self._generator[1].forget()
        self._free()

    def _let_generator_go(self) -> None:
        if self._generator is not None:
            self._generator[1].close()
            self._generator = None

    def _let_captioner_go(self) -> bool:
        """Whether there was one."""
        if self._captioner is None:
            return False
        self._captioner = None
        self._free()
        return True

    def _install(self, manifest: Manifest, task: Task, report: Reporter) -> Installed:
        """A model's weights, whole on this machine; before the stage of loading, which is timed."""
        if task not in manifest.family.tasks:
            raise JobFailed(
                "model_broken",
                f"'{manifest.name}' is of the family '{manifest.pipeline.family}', which does not do what its tasks "
                "say; correct its manifest.",
            )
        return install(manifest, self._settings, report, embedded=self._embedded, hub=self._hub)

    def _load_generator(
        self, manifest: Manifest, weights: Installed, asked: RequestedPrecision
    ) -> "WanRunner | ImageRunner":
        if manifest.pipeline.family != "wan":
            with library_imports():
                from wan_mcp.engine.families.image.loader import load_image_model
                from wan_mcp.engine.families.image.pipeline import ImageRunner
            self._blocks_move = False
            pictures = load_image_model(
                manifest, weights.folder, self.device, weights.sha256, make_room=self._let_captioner_go
            )
            return ImageRunner(pictures, self._media, self._embeddings(weights))
        with library_imports():
            from wan_mcp.engine.families.acceleration import Acceleration
            from wan_mcp.engine.families.wan.loader import load_wan
            from wan_mcp.engine.families.wan.pipeline import WanRunner
            from wan_mcp.engine.transformer.checkpoint_cache import WeightsCache
        if self._acceleration is None:
            self._acceleration = Acceleration(self._settings, self.device)
        precision = self.machine().precision_of(manifest, asked)
        memory = memory_plan(manifest, self.device, precision)
        if not memory.whole and self._let_captioner_go():
            memory = memory_plan(manifest, self.device, precision)
        self._blocks_move = not memory.stays
        log.info("%s", memory.describe())
        model = load_wan(
            manifest, weights.folder, self.device, weights.sha256, weights.extra_files,
            precision=asked, cache=WeightsCache(self._settings.home / "converted"),
            weight_store=memory.weight_store(self.device), reserved_bytes=memory.to_come,
            acceleration=self._acceleration,
        )  # fmt: skip
        return WanRunner(model, self._media, self._embeddings(weights))

    def _embeddings(self, weights: Installed) -> "PromptEmbeddings":
        from wan_mcp.engine.components.prompt_cache import PromptEmbeddings
        from wan_mcp.engine.components.prompt_cache_files import EmbeddingFiles

        files = EmbeddingFiles(self._settings.home / "embeddings", reserve_bytes=self._settings.min_free_bytes)
        return PromptEmbeddings(weights.sha256_of("text_encoder", "tokenizer"), files)

    def _caption(self, plan: CaptionPlan, manifest: Manifest, report: Reporter) -> str:
        from wan_mcp.engine.components.input_images import open_input

        if self._captioner is None or self._captioner[0] != manifest:
            weights = self._install(manifest, plan.task, report)
            self._captioner = None
            self._free()
            precision = self.machine().precision_of(manifest)
            self._make_room(plan.kind, needed_bytes(manifest, precision, default_shape(manifest)))
            report.enter(Stage.LOAD, detail=manifest.title)
            self._captioner = (manifest, self._load_captioner(manifest, weights))
        return self._captioner[1].caption(plan, open_input(self._media, plan.image), report)

    def _load_captioner(self, manifest: Manifest, weights: Installed) -> "Captioner":
        with library_imports():
            from wan_mcp.engine.families.caption.captioner import load_captioner
        return load_captioner(manifest, weights.folder, self.device)

    def _free(self) -> None:
        """Give back the memory of what is not held any more."""
        gc.collect()
        self.device.free_memory()


def build_runner(settings: Settings) -> ModelRunner:
    """The runner that `wan-mcp engine` runs: `run_engine(settings, lambda: build_runner(settings), device_name)`.

    Raises:
        JobFailed: the device of the settings does not exist.
    """
    return ModelRunner(settings, Catalog.of(settings.home), MediaStore(settings.home))
