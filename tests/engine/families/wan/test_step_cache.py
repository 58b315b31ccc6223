"""Passes that are left out: which, what it does to the result, and that nothing of it stays behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.fixtures.bench import ONE, TWO, Bench, video_plan
from tests.support.denoisers import in_fp8
from tests.support.loading import context_of
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.step_cache import PassCount, step_cache
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import StepCache

Load = Callable[[str], WanModel]
STEPS = 20
HARDLY, ALWAYS = StepCache(threshold=1e-9), StepCache(threshold=0.99)


def denoised(model: WanModel, config: StepCache | None) -> tuple[Tensor, PassCount]:
    """Latents of a small video with guidance, two passes a step."""
    pipeline = model.pipelines[Task.TEXT_TO_VIDEO]
    call: dict[str, Any] = {"prompt": "a red circle", "negative_prompt": "blue", "height": 64, "width": 64}
    call |= {"num_frames": 5, "num_inference_steps": STEPS, "guidance_scale": 3.0, "max_sequence_length": 12}
    generator = torch.Generator("cpu").manual_seed(3)
    with step_cache(model.denoisers, config) as count:
        latents = pipeline(**call, generator=generator, output_type="latent", return_dict=False)[0]
    return latents, count


@pytest.mark.parametrize("name", [ONE, TWO])
def test_passes_that_change_are_run_and_give_the_very_same_result(load: Load, name: str) -> None:
    model = load(name)
    plain, none = denoised(model, None)
    cached, count = denoised(model, HARDLY)
    assert torch.equal(cached, plain)
    assert (none.passes, count.passes, count.left_out) == (0, 2 * STEPS, 0)


@pytest.mark.parametrize("name", [ONE, TWO])
def test_passes_that_hardly_change_are_left_out_and_the_next_result_knows_nothing_of_it(load: Load, name: str) -> None:
    model = load(name)
    plain, _ = denoised(model, None)
    cached, count = denoised(model, ALWAYS)
    again, same = denoised(model, ALWAYS)
    first_passes = 2 * len(model.denoisers)  # of each denoiser, with and without the prompt
    assert count.full >= first_passes
    assert count.left_out > STEPS
    assert torch.isfinite(cached).all()
    assert not torch.equal(cached, plain)
    assert torch.equal(cached, again)
    assert same == count
    assert torch.equal(denoised(model, None)[0], plain)


def test_a_job_that_breaks_leaves_no_cache_behind(load: Load) -> None:
    model = load(ONE)
    with pytest.raises(KeyError), step_cache(model.denoisers, ALWAYS):
        raise KeyError
    assert not model.denoisers[0].is_cache_enabled
    denoised(model, ALWAYS)


def test_a_job_says_how_many_passes_it_left_out(bench: Bench) -> None:
    job = bench.run(video_plan(steps=STEPS, step_cache=ALWAYS))
    [note] = [note for note in job.notes if "passes" in note]
    assert note.startswith("step cache: ")
    assert note.endswith(f"of {2 * STEPS} passes were left out")


def test_fast_blocks_can_be_left_out_and_run_again(embedded: Path) -> None:
    model = load_wan(context_of(in_fp8(TWO), embedded / TWO, "fp8"))
    assert model.converted
    plain, _ = denoised(model, None)
    assert torch.equal(denoised(model, HARDLY)[0], plain)
    cached, count = denoised(model, ALWAYS)
    assert count.left_out > STEPS
    assert not torch.equal(cached, plain)
    assert torch.equal(denoised(model, None)[0], plain)
