"""From manifests to models: what is shared, what is replaced, and what is said when weights are no good."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler

from tests.fixtures.bench import (
    BLIP,
    MANIFESTS,
    ONE,
    TWO,
    Bench,
    caption_plan,
    changed,
    changed_pipeline,
    image_plan,
    video_plan,
)
from tests.support.loading import context_of, runner_in
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Weights
from wan_mcp.engine.components.install import fingerprint
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import Stage, Task

Load = Callable[[str], WanModel]


def test_all_tasks_share_one_set_of_parts(load: Load) -> None:
    model = load(ONE)
    assert set(model.pipelines) == set(MANIFESTS[ONE].tasks)
    for name in ("vae", "text_encoder", "transformer", "scheduler"):
        assert len({id(getattr(pipeline, name)) for pipeline in model.pipelines.values()}) == 1


def test_a_manifest_can_replace_scheduler_shift_and_boundary(embedded: Path) -> None:
    manifest = changed_pipeline(MANIFESTS[TWO], scheduler="euler", flow_shift=5.0, boundary_ratio=0.5)
    loaded = load_wan(context_of(manifest, embedded / TWO)).pipelines[Task.TEXT_TO_VIDEO]
    assert isinstance(loaded.scheduler, FlowMatchEulerDiscreteScheduler)
    assert loaded.scheduler.shift == 5.0
    assert loaded.config.boundary_ratio == 0.5


def test_fixed_noise_levels_are_used_as_they_stand(bench: Bench) -> None:
    levels = (1.0, 0.6, 0.25)
    for scheduler in ("euler", "unipc"):
        bench.catalog.manifests[ONE] = changed_pipeline(MANIFESTS[ONE], scheduler=scheduler, sigmas=levels)
        bench.run(video_plan(steps=3))
        used = runner_in(bench.runner)._model.any_pipeline.scheduler.sigmas
        assert used.tolist() == pytest.approx([*levels, 0.0], abs=1e-5)


def test_an_unknown_model_fails_its_job_only(bench: Bench) -> None:
    with pytest.raises(JobFailed, match="no model 'nobody'"):
        bench.run(video_plan("nobody"))
    bench.run(image_plan())


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickled"])
def test_weights_that_cannot_be_read_fail_their_jobs_with_a_reason(bench: Bench, embedded: Path, damage: str) -> None:
    folder = embedded / damage
    shutil.copytree(embedded / ONE, folder)
    tensors = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    if damage == "missing":
        shutil.rmtree(folder)
    elif damage == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:5000])
    else:
        tensors.rename(tensors.with_suffix(".bin"))
    bench.catalog.manifests[damage] = changed(
        MANIFESTS[ONE], name=damage, weights=Weights(embedded=damage, disk_bytes=1)
    )
    with pytest.raises(JobFailed, match=r"[Ii]nstall") as failure:
        bench.run(video_plan(damage))
    assert failure.value.code == "model_broken"
    bench.run(image_plan())


def test_a_task_that_the_weights_cannot_do_is_refused(bench: Bench) -> None:
    bench.catalog.manifests[TWO] = changed(MANIFESTS[TWO], tasks=(Task.TEXT_TO_VIDEO, Task.IMAGE_TO_IMAGE))
    with pytest.raises(JobFailed, match="image-to-image") as failure:
        bench.run(video_plan(TWO))
    assert failure.value.code == "not_supported"


def test_a_family_that_does_not_do_the_task_is_refused(bench: Bench) -> None:
    bench.catalog.manifests[BLIP] = changed(MANIFESTS[BLIP], pipeline=MANIFESTS[ONE].pipeline)
    with pytest.raises(JobFailed, match="family 'wan'"):
        bench.run(caption_plan(bench.picture(), model=BLIP))


def test_another_model_takes_the_place_of_the_former_and_captions_keep_theirs(bench: Bench) -> None:
    picture = bench.picture()
    loads = []
    for plan in (
        image_plan(ONE),
        caption_plan(picture),
        image_plan(TWO),
        caption_plan(picture),
        image_plan(ONE),
        image_plan(ONE),
    ):
        ear = bench.ear(plan)
        bench.run(plan, ear)
        loads.append((Stage.LOAD, 1) in ear.heard)
    assert loads == [True, True, True, False, True, False]


def test_a_manifest_that_was_edited_is_loaded_anew(bench: Bench) -> None:
    first = bench.run(image_plan()).artifacts[0].path
    bench.catalog.manifests[ONE] = changed_pipeline(MANIFESTS[ONE], flow_shift=9.0)
    assert Path(bench.run(image_plan()).artifacts[0].path).read_bytes() != Path(first).read_bytes()


def test_a_fingerprint_follows_the_content(embedded: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(embedded / BLIP, copy)
    assert fingerprint(copy) == fingerprint(embedded / BLIP)
    tensors = copy / "model.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-1] + b"\x01")
    assert fingerprint(copy) != fingerprint(embedded / BLIP)


@pytest.mark.parametrize("name", ["cuda:99", "cuda:099"])
def test_a_gpu_that_does_not_exist_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(JobFailed, match="WAN_MCP_DEVICE"):
        resolve_device(name)


def test_manifests_are_read_again_only_when_a_file_has_changed(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    shutil.copytree(shipped_folder() / "latent_rgb", folder / "latent_rgb")
    shutil.copy(shipped_folder() / "wan-mini.toml", folder)
    catalog = Catalog(folder)
    runner = ModelRunner(bench.settings, catalog)
    shipped = catalog.get("wan-mini")
    assert not runner.needs_download(bench.job(video_plan("wan-mini")))
    assert catalog.get("wan-mini") is shipped
    shutil.copy(shipped_folder() / "wan2.1-t2v-1.3b.toml", folder)
    assert runner.needs_download(bench.job(video_plan("wan2.1-t2v-1.3b")))
