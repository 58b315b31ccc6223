"""Models whose weights stay in their files: the same bits as with weights in memory, and no memory for weights."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, changed, image_plan, video_plan
from tests.support.loading import runner_in
from tests.support.lora_files import lora_plan, write_lora
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Placement
from wan_mcp.engine.families.wan.memory_plan import memory_plan
from wan_mcp.errors import JobCancelled, JobFailed
from wan_mcp.hardware.host_memory import main_memory
from wan_mcp.schema.enums import Task
from wan_mcp.schema.jobs import Job

FILES = ("in fp32", "in bf16")


def as_large_as_the_machine(manifest: Manifest) -> Manifest:
    """A manifest whose weights have no room in main memory, unless they stay in their files."""
    weights = manifest.weights.model_copy(update={"memory_bytes": {"fp32": main_memory()}})
    return changed(manifest, weights=weights)


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> dict[str, Path]:
    """The tiny models, with the weights of their text encoders and denoisers in fp32 and in bf16."""
    half = tmp_path_factory.mktemp("bf16")
    for name in (ONE, TWO):
        pipeline = WanPipeline.from_pretrained(embedded / name, local_files_only=True)
        for part in ("text_encoder", "transformer", "transformer_2"):
            if (module := getattr(pipeline, part)) is not None:
                module.to(torch.bfloat16)
        pipeline.save_pretrained(half / name)
    return {"in fp32": embedded, "in bf16": half}


@pytest.fixture(params=FILES)
def place(request: pytest.FixtureRequest, files: dict[str, Path], tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, files[request.param])
    yield bench
    bench.store.database.close()


def pixels(job: Job) -> bytes:
    return Path(job.artifacts[0].path).read_bytes()


def map_weights(bench: Bench, *names: str) -> None:
    for name in names:
        bench.catalog.manifests[name] = as_large_as_the_machine(MANIFESTS[name])


def test_results_are_the_same_to_the_bit_as_with_weights_in_memory(place: Bench) -> None:
    plans: list[Any] = [
        image_plan(ONE),
        video_plan(ONE, task=Task.IMAGE_TO_VIDEO, image=place.picture()),
        video_plan(TWO),
    ]
    expected = [pixels(place.run(plan)) for plan in plans]
    assert not runner_in(place.runner)._model.is_mapped
    map_weights(place, ONE, TWO)
    found = [pixels(place.run(plan)) for plan in plans]
    assert runner_in(place.runner)._model.is_mapped
    assert found == expected


def test_weights_take_no_memory_and_no_other_bits_after_a_job_that_was_stopped(place: Bench) -> None:
    expected = pixels(place.run(video_plan(TWO)))
    map_weights(place, TWO)
    ear = place.ear(video_plan(TWO))
    ear.error, ear.stop_at = JobCancelled, lambda it: len(it.steps) > 2
    with pytest.raises(JobCancelled), ear:
        place.runner.run(ear.job, ear)
    model = runner_in(place.runner)._model
    parts = [model.text_encoder, *model.denoisers]
    held = {id(p): p.untyped_storage().nbytes() for part in parts for p in part.parameters()}
    assert max(held.values()) == torch.float32.itemsize
    assert {p.dtype for part in parts for p in part.parameters()} == {torch.float32}
    assert pixels(place.run(video_plan(TWO))) == expected


@pytest.mark.parametrize("style", ["lightx2v", "kijai"], ids=["low-rank layers", "patches of biases, too"])
def test_loras_change_mapped_weights_as_they_change_others_and_can_be_taken_off(place: Bench, style: str) -> None:
    file = place.settings.home / "all.safetensors"
    plain = pixels(place.run(video_plan(ONE)))
    lora = lora_plan(write_lora(file, runner_in(place.runner)._model.denoisers[0], style))
    expected = pixels(place.run(video_plan(ONE, lora=(lora,))))
    assert expected != plain
    map_weights(place, ONE)
    assert pixels(place.run(video_plan(ONE, lora=(lora,)))) == expected
    assert pixels(place.run(video_plan(ONE))) == plain


def test_files_that_lack_a_weight_are_named_broken(embedded: Path, tmp_path: Path) -> None:
    shutil.copytree(embedded / TWO, tmp_path / "embedded" / TWO)
    shutil.copy(
        embedded / ONE / "transformer" / "diffusion_pytorch_model.safetensors",
        tmp_path / "embedded" / TWO / "transformer_2" / "diffusion_pytorch_model.safetensors",
    )
    shutil.copy(
        embedded / TWO / "text_encoder" / "model.safetensors",
        tmp_path / "embedded" / TWO / "transformer" / "diffusion_pytorch_model.safetensors",
    )
    bench = Bench(tmp_path, tmp_path / "embedded")
    map_weights(bench, TWO)
    with pytest.raises(JobFailed, match="tensors are missing or unknown") as failure:
        bench.run(video_plan(TWO))
    assert failure.value.code == "model_broken"
    bench.store.database.close()


def test_a_plan_says_that_weights_stay_in_their_files(bench: Bench) -> None:
    plan = memory_plan(as_large_as_the_machine(MANIFESTS[ONE]), bench.runner.device, "fp32")
    assert plan.placement is Placement.MAPPED and plan.stays
    assert "from which each layer reads its weights in every pass" in plan.describe()
