"""Plain diffusers, with which benchmarks compare: the same request, the same frames, nothing of ours in between."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from PIL import Image

from tests.fixtures.bench import MANIFESTS, ONE, TWO, TWO_OF_IMAGES, Bench, changed_pipeline, image_plan, video_plan
from tests.support.loading import context_of
from wan_mcp.engine.families.wan.plain import load_plain_wan
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan


def made(bench: Bench, embedded: Path, plan: VideoPlan | ImagePlan) -> "np.typing.NDArray[np.uint8]":
    """What plain diffusers makes of a plan, as a clip."""
    context = context_of(MANIFESTS[plan.model], embedded / plan.model)
    object.__setattr__(context, "settings", bench.settings)
    pipeline, placement, arguments = load_plain_wan(context, plan)
    assert placement == "to(device)"
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator("cpu").manual_seed(plan.seed)
    clip = pipeline(**arguments(plan), generator=generator, output_type="np").frames[0]
    return (np.asarray(clip) * 255).round().astype(np.uint8)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", [ONE, TWO])
def test_an_image_is_that_of_a_job(bench: Bench, embedded: Path, model: str, guidance: float) -> None:
    plan = image_plan(model, guidance_scale=guidance)
    with Image.open(bench.run(plan).artifacts[0].path) as picture:
        ours = np.asarray(picture)
    [its] = made(bench, embedded, plan)
    assert np.abs(ours.astype(int) - its).max() <= 1  # convolutions of the VAE are computed in another order


def test_a_video_goes_on_from_the_picture_of_its_request(bench: Bench, embedded: Path) -> None:
    plan = video_plan(TWO_OF_IMAGES, task=Task.IMAGE_TO_VIDEO, image=bench.picture())
    clip = made(bench, embedded, plan)
    assert clip.shape == (5, 64, 64, 3)
    other = video_plan(TWO_OF_IMAGES, task=Task.IMAGE_TO_VIDEO, image=bench.picture(64, 80))
    assert not np.array_equal(clip, made(bench, embedded, other))


def test_the_scheduler_and_the_noise_levels_are_those_of_the_manifest(embedded: Path) -> None:
    manifest = changed_pipeline(MANIFESTS[ONE], scheduler="unipc", sigmas=(1.0, 0.6, 0.2))
    pipeline, _, _ = load_plain_wan(context_of(manifest, embedded / ONE), video_plan())
    assert isinstance(pipeline.scheduler, UniPCMultistepScheduler)
    pipeline.scheduler.set_timesteps(40)
    assert pipeline.scheduler.sigmas[:3].tolist() == pytest.approx([1.0, 0.6, 0.2], abs=1e-3)


def test_what_diffusers_has_no_pipeline_for_is_not_compared(bench: Bench, embedded: Path) -> None:
    plan = image_plan(task=Task.IMAGE_TO_IMAGE, image=bench.picture())
    with pytest.raises(JobFailed, match="does not do image-to-image"):
        load_plain_wan(context_of(MANIFESTS[ONE], embedded / ONE), plan)
