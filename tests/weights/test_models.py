"""Every shipped hub model, in small: served, pulled by its own manifest, loaded by the engine, run in all its tasks."""

import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.fixtures.bench import Ear
from tests.support.layouts import PIPELINES, save_further, save_tiny, shipped_in_small
from tests.support.loading import runner_in
from tests.support.loopback import LoopbackHub
from tests.support.lora_files import Written, merge_by_hand, write_lora
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.errors import BadRequest
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.store import MediaStore
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState, Kind, Stage, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import Settings
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import installed_weights, is_installed

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
SHIPPED = shipped_in_small()
ON_THE_HUB = sorted(
    name
    for name, manifest in SHIPPED.manifests.items()
    if manifest.weights.repository and manifest.pipeline.family == "wan"  # tests/families has the others
)
STEPS = 4
SIZE = "64x64"
FRAMES = 5


@dataclass
class Workplace:
    """A home, the shipped manifests as they are, and an engine's runner that pulls from the loopback hub."""

    settings: Settings
    hub: LoopbackHub
    store: JobStore
    picture: Path
    catalog: Catalog = SHIPPED

    def __post_init__(self) -> None:
        self.media = MediaStore(self.settings.home)
        self.runner = self.new_runner()

    def new_runner(self) -> ModelRunner:
        """A runner that has loaded nothing."""
        cache = Hub(self.hub.endpoint, self.settings.home.parent / "cache", False)
        return ModelRunner(self.settings, self.catalog, hub=cache)

    def run(self, task: Task, model: str) -> tuple[Job, Ear]:
        """The finished job of a small request of that task."""
        request = self._request(task, model)
        inputs = InputImages(self.media, [self.picture.parent], 20, 50)
        first = inputs.take(request.image) if request.image else None
        last = inputs.take(request.last_image) if isinstance(request, VideoRequest) and request.last_image else None
        plan = Planner(self.settings, self.catalog).plan(request, first, last)
        self.store.submit(request, plan, None, 99)
        job = self.store.claim("cpu")
        assert job is not None
        with Ear(job, self.store, self.settings) as ear:
            self.runner.run(job, ear)
        self.store.finish(job, JobState.SUCCEEDED)
        return self.store.get(job.id), ear

    def _request(self, task: Task, model: str) -> VideoRequest | ImageRequest:
        image = None if task in (Task.TEXT_TO_VIDEO, Task.TEXT_TO_IMAGE) else str(self.picture)
        common: dict[str, Any] = {"prompt": "a red circle", "model": model, "steps": STEPS, "resolution": SIZE}
        if task.kind is Kind.IMAGE:
            return ImageRequest(**common, image=image, seed=3)
        last = image if task is Task.FIRST_LAST_FRAME_TO_VIDEO else None
        return VideoRequest(**common, image=image, last_image=last, num_frames=FRAMES, seed=3)

    @property
    def model(self) -> WanModel:
        """What the runner has loaded."""
        model: WanModel = runner_in(self.runner)._model
        return model


@pytest.fixture
def workplace(hub: LoopbackHub, tmp_path: Path) -> Iterator[Workplace]:
    settings = Settings(home=tmp_path / "home", device="cpu")
    settings.home.mkdir()
    picture = tmp_path / "picture.png"
    Image.radial_gradient("L").convert("RGB").resize((96, 80)).save(picture)
    store = JobStore(Database(settings.database))
    yield Workplace(settings, hub, store, picture)
    store.database.close()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Manifest], Path]:
    """`tiny(manifest)`: the folder of the tiny repository of a manifest, made once."""
    folders: dict[str, Path] = {}

    def make(manifest: Manifest) -> Path:
        if manifest.name not in folders:
            folders[manifest.name] = tmp_path_factory.mktemp(manifest.name)
            save_tiny(manifest, folders[manifest.name] / "own")
            save_further(manifest, folders[manifest.name] / "own", folders[manifest.name] / "further")
        return folders[manifest.name] / "own"

    return make


def serve(hub: LoopbackHub, manifest: Manifest, folder: Path) -> str:
    assert manifest.weights.repository is not None
    for repository in {name for expert in manifest.pipeline.experts for name, _ in expert.extra_files}:
        hub.add(repository, folder.parent / "further" / repository)
    return hub.add(manifest.weights.repository, folder)


def test_there_are_models_on_the_hub() -> None:
    assert len(ON_THE_HUB) >= 4
    assert not SHIPPED.broken


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_there_are_two_experts_where_there_is_a_boundary_between_them(name: str) -> None:
    pipeline = SHIPPED.get(name).pipeline
    folders = [expert.subfolder for expert in pipeline.experts]
    assert folders == ["transformer", "transformer_2"][: 1 if pipeline.boundary_ratio is None else 2]


@pytest.mark.parametrize("name", ON_THE_HUB)
def test_a_shipped_model_is_pulled_loaded_and_run_in_all_its_tasks(
    name: str, workplace: Workplace, tiny: Callable[[Manifest], Path], tmp_path: Path
) -> None:
    manifest = SHIPPED.get(name)
    commit = serve(workplace.hub, manifest, tiny(manifest))
    assert not is_installed(manifest, workplace.settings.home)

    first, ear = workplace.run(manifest.tasks[0], name)
    stages = [stage for stage, _ in ear.heard]
    assert stages[:3] == [Stage.DOWNLOAD, Stage.LOAD, Stage.ENCODE]
    assert any("of" in detail and "B" in detail for detail in ear.details)
    weights = installed_weights(manifest, workplace.settings.home)
    assert weights is not None
    assert weights.commit == commit
    names = {str(f.relative_to(weights.folder)) for f in weights.folder.rglob("*") if f.is_file()}
    assert not [f for f in names if f.endswith((".bin", ".md", ".png"))]
    in_gguf = any(expert.gguf for expert in manifest.pipeline.experts)
    assert ("transformer/diffusion_pytorch_model.safetensors.index.json" in names) is not in_gguf
    assert set(weights.extra_files) == {file for expert in manifest.pipeline.experts for file in expert.extra_files}
    assert not [path for path in tmp_path.rglob("other.safetensors") if "models--" in str(path)]
    assert workplace.model.weights_sha256 == weights.fingerprint

    _check_parts(manifest, workplace.model)
    _check_result(first, manifest.tasks[0], weights.fingerprint)
    for task in manifest.tasks[1:]:
        job, ear = workplace.run(task, name)
        assert Stage.DOWNLOAD not in [stage for stage, _ in ear.heard]
        _check_result(job, task, weights.fingerprint)


def _check_parts(manifest: Manifest, model: WanModel) -> None:
    """The right classes, experts and schedule."""
    pipeline = manifest.pipeline
    assert {task: type(p).__name__ for task, p in model.pipelines.items()} == {t: PIPELINES[t] for t in manifest.tasks}
    assert len(model.denoisers) == len(pipeline.experts)
    scheduler = model.any_pipeline.scheduler
    if pipeline.scheduler == "euler":
        assert type(scheduler).__name__ == "FlowMatchEulerDiscreteScheduler"
        assert scheduler.sigmas.tolist() == pytest.approx([*pipeline.sigmas, 0.0])
    else:
        assert type(scheduler).__name__ == "UniPCMultistepScheduler"
        assert scheduler.config.flow_shift == pipeline.flow_shift
    fused = [(lora["expert"], lora["scale"]) for lora in model.fused_lora]
    assert fused == [(expert.name, lora.scale) for expert in pipeline.experts for lora in expert.lora]
    in_few_bits = [denoiser.blocks[0].attn1.to_q.weight.dtype is torch.uint8 for denoiser in model.denoisers]
    assert in_few_bits == [expert.gguf is not None for expert in pipeline.experts]
    assert model.any_pipeline.config.get("boundary_ratio") == pipeline.boundary_ratio
    assert manifest.sizes is not None
    multiple = model.any_pipeline.vae_scale_factor_spatial * model.denoisers[0].config.patch_size[1]
    assert manifest.sizes.multiple == multiple
    assert manifest.frames is not None
    assert manifest.frames.multiple == model.any_pipeline.vae_scale_factor_temporal


def _check_result(job: Job, task: Task, sha256: str) -> None:
    (artifact,) = job.artifacts
    assert (artifact.width, artifact.height) == (64, 64)
    assert artifact.frames == (FRAMES if task.kind is Kind.VIDEO else None)
    if task.kind is Kind.VIDEO:
        assert (read_receipt(Path(artifact.path)) or {})["weights_sha256"] == sha256


@pytest.mark.parametrize("name", [n for n in ON_THE_HUB if any(e.lora for e in SHIPPED.get(n).pipeline.experts)])
def test_a_distilled_model_is_its_experts_with_their_loras_merged_by_hand(
    name: str, workplace: Workplace, tiny: Callable[[Manifest], Path], tmp_path: Path
) -> None:
    manifest = SHIPPED.get(name)
    serve(workplace.hub, manifest, tiny(manifest))
    job, _ = workplace.run(manifest.tasks[0], name)
    extra_files: dict[str, Written] = {}
    for number, (expert, denoiser) in enumerate(zip(manifest.pipeline.experts, workplace.model.denoisers, strict=True)):
        original = type(denoiser).from_pretrained(tiny(manifest), subfolder=expert.subfolder, local_files_only=True)
        for lora in expert.lora:
            copy = tmp_path / "copy.safetensors"
            if lora.file not in extra_files:
                extra_files[lora.file] = write_lora(copy, original, "kijai", seed=number)
            merge_by_hand(original, extra_files[lora.file], lora.scale)
        torch.testing.assert_close(denoiser.state_dict(), original.state_dict(), atol=1e-5, rtol=1e-4)
    receipt = read_receipt(Path(job.artifacts[0].path)) or {}
    assert [(lora["expert"], lora["scale"]) for lora in receipt["fused_lora"]] == [
        (expert.name, lora.scale) for expert in manifest.pipeline.experts for lora in expert.lora
    ]
    assert all(len(lora["sha256"]) == 64 for lora in receipt["fused_lora"])


def test_a_distilled_model_says_why_it_takes_no_other_number_of_steps(workplace: Workplace) -> None:
    planner = Planner(workplace.settings, SHIPPED)
    with pytest.raises(BadRequest, match="distilled for exactly 4 steps"):
        planner.plan(VideoRequest(prompt="x", model="wan2.2-t2v-a14b-4step", steps=8))
    picture = InputImage(sha256="", file="", width=64, height=64, source="")
    planner.plan(VideoRequest(prompt="x", model="wan2.2-i2v-a14b-fast", steps=8, image="picture.png"), picture)


def test_a_model_is_added_by_a_file_and_by_nothing_else(workplace: Workplace, tiny: Callable[[Manifest], Path]) -> None:
    _, _, example = PAGE.read_text(encoding="utf-8").partition("    schema = 1\n")
    lines = takewhile(lambda line: not line or line.startswith("    "), example.splitlines())
    written = textwrap.dedent("\n".join(["    schema = 1", *lines]))
    known = SHIPPED.get("wan2.2-i2v-a14b")
    commit = workplace.hub.add("owner/name", tiny(known))
    file = workplace.settings.home / "manifests" / "mine.toml"
    file.parent.mkdir()
    file.write_text(
        written.replace("0123456789abcdef0123456789abcdef01234567", commit)
        .replace("width = 832, height = 480", "width = 64, height = 64")
        .replace('"landscape"', f'"{SIZE}"'),
        encoding="utf-8",
    )
    workplace.catalog = Catalog.of(workplace.settings.home)
    workplace.runner = workplace.new_runner()
    manifest = workplace.catalog.get("my-wan")
    assert manifest.weights.revision == commit
    job, _ = workplace.run(Task.IMAGE_TO_VIDEO, "my-wan")
    _check_result(job, Task.IMAGE_TO_VIDEO, workplace.model.weights_sha256)
    assert len(workplace.model.denoisers) == 2


@pytest.mark.parametrize("name", [name for name in ON_THE_HUB if SHIPPED.get(name).pipeline.boundary_ratio])
def test_each_expert_denoises_its_own_noise_levels(
    name: str, workplace: Workplace, tiny: Callable[[Manifest], Path]
) -> None:
    manifest = SHIPPED.get(name)
    serve(workplace.hub, manifest, tiny(manifest))
    workplace.run(manifest.tasks[0], name)
    seen: dict[int, list[float]] = {0: [], 1: []}
    handles = [
        denoiser.register_forward_pre_hook(
            lambda module, args, kwargs, number=number: seen[number].append(float(kwargs["timestep"].flatten()[0])),
            with_kwargs=True,
        )
        for number, denoiser in enumerate(workplace.model.denoisers)
    ]
    workplace.run(manifest.tasks[0], name)
    for handle in handles:
        handle.remove()
    boundary = 1000 * (manifest.pipeline.boundary_ratio or 0)
    assert len(seen[0]) + len(seen[1]) == (2 if manifest.defaults.guidance_scale > 1 else 1) * STEPS
    assert seen[0]
    assert seen[1]
    assert min(seen[0]) >= boundary > max(seen[1])


def test_a_loaded_model_starts_again_without_the_hub(workplace: Workplace, tiny: Callable[[Manifest], Path]) -> None:
    manifest = SHIPPED.get("wan2.1-t2v-1.3b")
    serve(workplace.hub, manifest, tiny(manifest))
    first, _ = workplace.run(Task.TEXT_TO_VIDEO, manifest.name)
    workplace.hub.forget()
    workplace.runner = workplace.new_runner()
    again, ear = workplace.run(Task.TEXT_TO_VIDEO, manifest.name)
    assert not workplace.hub.requests
    assert Stage.DOWNLOAD not in [stage for stage, _ in ear.heard]
    assert Path(first.artifacts[0].path).read_bytes() == Path(again.artifacts[0].path).read_bytes()
