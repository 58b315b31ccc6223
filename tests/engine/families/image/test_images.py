"""Every shipped image model that is not Wan, in small: pulled, loaded, run in all its tasks, stopped and repeated."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from PIL import Image

from tests.fixtures.served_models import IMAGE_MODELS, OTHERS, SHIPPED, Place
from tests.support.image_jobs import STEPS, model_of, pixels, request
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.hooks import pre_forward_hook
from wan_mcp.engine.components.input_images import open_framed
from wan_mcp.engine.device.device import Device
from wan_mcp.errors import BadRequest, JobCancelled, JobFailed
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import Stage, Task
from wan_mcp.schema.plans import ImagePlan
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub

Served = Callable[[str], Manifest]

PIPELINES = {
    "z-image-turbo": ["ZImagePipeline", "ZImageImg2ImgPipeline"],
    "flux2-klein-4b": ["Flux2KleinPipeline", "Flux2KleinPipeline"],
    "qwen-image-2512": ["QwenImagePipeline", "QwenImageImg2ImgPipeline"],
    "qwen-image-edit-2511": ["QwenImageEditPlusPipeline"],
}


def test_every_image_model_has_its_classes_named() -> None:
    assert set(PIPELINES) <= set(OTHERS)


def tasks() -> list[tuple[str, Task]]:
    return [(name, task) for name in IMAGE_MODELS for task in SHIPPED.get(name).tasks]


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_model_is_pulled_loaded_and_run_in_all_its_tasks(name: str, place: Place, served: Served) -> None:
    manifest = served(name)
    for number, task in enumerate(manifest.tasks):
        ear = place.ear(request(name, task))
        job = place.run(request(name, task), ear)
        stages = [stage for stage, _ in ear.heard]
        first = [Stage.DOWNLOAD, Stage.LOAD] if number == 0 else []
        assert stages == [*first, Stage.ENCODE, Stage.DENOISE, Stage.DECODE, Stage.WRITE]
        (artifact,) = job.artifacts
        assert (artifact.width, artifact.height, artifact.frames, artifact.seed) == (64, 96, None, 5)
        receipt = read_receipt(Path(artifact.path)) or {}
        assert receipt["request"]["model"] == name
        assert receipt["weights_sha256"] == model_of(place).weights_sha256
    assert [type(p).__name__ for p in model_of(place).pipelines.values()] == PIPELINES[name]
    unwanted = [file for file in place.hub.file_requests() if file.path.endswith((".bin", ".md"))]
    assert not unwanted


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_the_sizes_of_an_image_model_are_multiples_of_its_patches(name: str, place: Place, served: Served) -> None:
    manifest = served(name)
    place.run(request(name, manifest.tasks[0], steps=2))
    assert manifest.sizes is not None
    assert manifest.sizes.multiple == 2 * model_of(place).parts.vae_scale_factor


@pytest.mark.parametrize(("name", "task"), tasks())
def test_a_result_is_what_the_unchanged_pipeline_makes(name: str, task: Task, place: Place, served: Served) -> None:
    manifest = served(name)
    job = place.run(request(name, task))
    model, plan = model_of(place), job.plan
    assert isinstance(plan, ImagePlan)
    call: dict[str, Any] = {"prompt": "a red circle", "width": 64, "height": 96, "num_inference_steps": STEPS}
    call |= {"max_sequence_length": manifest.pipeline.text_tokens}
    if name.startswith("qwen"):
        call |= {"true_cfg_scale": 4.0, "negative_prompt": plan.negative_prompt or " "}
    else:
        call |= {"guidance_scale": 0.0}
    if plan.image is not None:
        call |= {"image": open_framed(place.media, plan.image, plan)}
        call |= {} if manifest.pipeline.edits else {"strength": 2 / 3 - 0.01}
    fresh = getattr(diffusers, type(model.pipelines[task]).__name__)(**model.pipelines[task].components)
    fresh.set_progress_bar_config(disable=True)
    expected = fresh(**call, generator=torch.Generator("cpu").manual_seed(5)).images[0]
    assert pixels(job.artifacts[0].path) == expected.tobytes()


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_each_result_of_a_count_is_what_a_job_of_its_own_gives(name: str, place: Place, served: Served) -> None:
    task = served(name).tasks[0]
    two = place.run(request(name, task, count=2))
    second = place.run(request(name, task, seed=6))
    assert [artifact.seed for artifact in two.artifacts] == [5, 6]
    assert Path(two.artifacts[1].path).read_bytes() == Path(second.artifacts[0].path).read_bytes()
    assert pixels(two.artifacts[0].path) != pixels(two.artifacts[1].path)


def test_weights_that_were_updated_are_loaded_for_the_next_job(
    place: Place, served: Served, repository: Callable[[Manifest], Path], tmp_path: Path
) -> None:
    manifest = served("z-image-turbo")
    place.run(request(manifest.name, manifest.tasks[0]))
    first = model_of(place)
    place.run(request(manifest.name, manifest.tasks[0], seed=6))
    assert model_of(place) is first
    changed = shutil.copytree(repository(manifest), tmp_path / "changed")
    (changed / "scheduler" / "scheduler_config.json").write_text(
        (changed / "scheduler" / "scheduler_config.json").read_text() + "\n"
    )
    assert manifest.weights.repository is not None
    place.hub.add(manifest.weights.repository, changed)
    hub = Hub(place.hub.endpoint, place.settings.home.parent / "cache", False)
    fetch(manifest, place.settings.home, lambda download: None, hub=hub, update=True)
    place.run(request(manifest.name, manifest.tasks[0]))
    assert model_of(place).weights_sha256 != first.weights_sha256


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_prompt_is_read_once_for_all_results_and_engines_but_where_it_is_read_with_the_picture(
    name: str, place: Place, served: Served
) -> None:
    task = served(name).tasks[0]
    before = place.run(request(name, task))
    place.new_runner()
    place.run(request(name, task, prompt="a blue square"))
    passes: list[str] = []
    with pre_forward_hook(model_of(place).text_encoder, lambda: passes.append("")):
        after = place.run(request(name, task, count=2))
    assert len(passes) == (4 if name == "qwen-image-edit-2511" else 0)
    assert pixels(before.artifacts[0].path) == pixels(after.artifacts[0].path)


@pytest.mark.parametrize("stage", [Stage.ENCODE, Stage.DENOISE, Stage.DECODE])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_job_stops_in_any_stage_and_the_next_one_is_the_same(
    name: str, stage: Stage, place: Place, served: Served
) -> None:
    task = served(name).tasks[0]
    before = place.run(request(name, task))
    ear = place.ear(request(name, task, prompt="a blue square"))
    ear.stop_at = lambda ear: bool(ear.heard) and ear.heard[-1][0] is stage
    ear.error = JobCancelled
    with pytest.raises(JobCancelled):
        place.run(request(name, task), ear)
    after = place.run(request(name, task))
    assert Path(before.artifacts[0].path).read_bytes() == Path(after.artifacts[0].path).read_bytes()


@pytest.mark.parametrize(("strength", "steps"), [(0.3, 1), (0.7, 2), (1.0, 3)])
@pytest.mark.parametrize("name", ["z-image-turbo", "qwen-image-2512"])
def test_strength_says_how_many_of_the_steps_are_run(
    name: str, strength: float, steps: int, place: Place, served: Served
) -> None:
    served(name)
    asked = request(name, Task.IMAGE_TO_IMAGE, strength=strength)
    ear = place.ear(asked)
    place.run(asked, ear)
    assert ear.steps == [(number, steps) for number in range(steps + 1)]


@pytest.mark.parametrize("name", ["flux2-klein-4b", "qwen-image-edit-2511"])
def test_an_edit_looks_at_the_picture_and_takes_no_strength(name: str, place: Place, served: Served) -> None:
    served(name)
    red = place.run(request(name, Task.IMAGE_TO_IMAGE))
    Image.new("RGB", (96, 80), "blue").save(place.picture)
    blue = place.run(request(name, Task.IMAGE_TO_IMAGE))
    assert pixels(red.artifacts[0].path) != pixels(blue.artifacts[0].path)
    with pytest.raises(BadRequest, match="omit strength"):
        place.plan(request(name, Task.IMAGE_TO_IMAGE, strength=0.5))


@pytest.mark.parametrize("name", ["z-image-turbo", "flux2-klein-4b"])
def test_a_distilled_model_takes_no_guidance(name: str, place: Place) -> None:
    with pytest.raises(BadRequest, match="guidance_scale 4 is not allowed"):
        place.plan(request(name, Task.TEXT_TO_IMAGE, guidance_scale=4.0))
    plan = place.plan(request(name, Task.TEXT_TO_IMAGE, negative_prompt="blue"))
    assert plan.notes == ("negative_prompt has no effect at guidance_scale 1",)


def test_guidance_above_one_reads_the_negative_prompt(place: Place, served: Served) -> None:
    served("qwen-image-2512")
    results = [
        place.run(request("qwen-image-2512", Task.TEXT_TO_IMAGE, **asked))
        for asked in ({}, {"negative_prompt": "blue"}, {"guidance_scale": 1.0})
    ]
    assert len({pixels(job.artifacts[0].path) for job in results}) == 3


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_prompt_that_is_too_long_is_said_to_be_cut(name: str, place: Place, served: Served) -> None:
    manifest = served(name)
    short = manifest.pipeline.model_copy(update={"text_tokens": 40})
    place.catalog.manifests[name] = manifest.model_copy(update={"pipeline": short})
    job = place.run(request(name, manifest.tasks[0], prompt="a red circle " * 10, steps=2))
    assert f"'{name}' reads 40: the end was cut off" in job.notes[0]


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_a_model_without_room_in_main_memory_stays_in_its_files_and_makes_the_same_picture(
    name: str, place: Place, served: Served
) -> None:
    manifest = served(name)
    expected = [pixels(place.run(request(name, task)).artifacts[0].path) for task in manifest.tasks]
    assert model_of(place).offload == "resident"
    weights = manifest.weights.model_copy(update={"memory_bytes": {"fp32": main_memory()}})
    place.catalog.manifests[name] = manifest.model_copy(update={"weights": weights})
    found = [pixels(place.run(request(name, task)).artifacts[0].path) for task in manifest.tasks]
    assert model_of(place).offload == "mapped"
    assert found == expected


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_model_runs_in_the_precision_of_gpus(name: str, place: Place, served: Served) -> None:
    manifest = served(name)
    place.runner.device = Device(torch.device("cpu"), "bf16", "cpu")
    results = [place.run(request(name, task)) for task in manifest.tasks for _ in range(2)]
    assert pixels(results[0].artifacts[0].path) == pixels(results[1].artifacts[0].path)
    parts = model_of(place).parts
    assert {part.dtype for part in (parts.transformer, parts.vae, parts.text_encoder)} == {torch.bfloat16}
    assert (read_receipt(Path(results[0].artifacts[0].path)) or {})["precision"] == "bf16"


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_fixed_noise_levels_of_a_manifest_are_used(name: str, place: Place, served: Served) -> None:
    manifest = served(name)
    fixed = manifest.pipeline.model_copy(update={"sigmas": (1.0, 0.5), "flow_shift": 1.0})
    place.catalog.manifests[name] = manifest.model_copy(update={"pipeline": fixed})
    place.run(request(name, manifest.tasks[0], steps=2))
    levels = model_of(place).parts.scheduler.sigmas.tolist()
    assert levels[0] == pytest.approx(1.0)
    assert levels[1] == pytest.approx(0.5)


def test_weights_of_another_class_are_refused(
    place: Place, served: Served, repository: Callable[[Manifest], Path]
) -> None:
    served("z-image-turbo")
    place.hub.add("Tongyi-MAI/Z-Image-Turbo", repository(SHIPPED.get("flux2-klein-4b")))
    with pytest.raises(JobFailed, match="transformer is a Flux2Transformer2DModel"):
        place.run(request("z-image-turbo", Task.TEXT_TO_IMAGE))
