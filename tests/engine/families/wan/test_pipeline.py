"""Plans through the real pipelines: the same frames as theirs, stage by stage, and usable after any end."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from tests.fixtures.bench import ONE, TWO, TWO_OF_IMAGES, Bench, Ear, image_plan, video_plan
from tests.support.loading import runner_in
from tests.support.videos import probe
from wan_mcp.engine.families.wan.decode import FrameDecoder
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.errors import JobCancelled, JobFailed
from wan_mcp.media.receipts import read_receipt
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import Stage, Task
from wan_mcp.schema.jobs import Job

Frames = NDArray[np.uint8]
Load = Callable[[str], WanModel]


@pytest.fixture
def frames(monkeypatch: pytest.MonkeyPatch) -> list[Frames]:
    """The frames that are written, as they come."""
    came: list[Frames] = []
    add = VideoWriter.add

    def keep(writer: VideoWriter, pixels: Frames) -> None:
        came.append(pixels)
        add(writer, pixels)

    monkeypatch.setattr(VideoWriter, "add", keep)
    return came


def as_a_user_would(pipeline: Any, plan: Any, **more: Any) -> Frames:
    """What the unchanged pipeline gives for a plan's values."""
    call = {
        "prompt": plan.prompt,
        "negative_prompt": plan.negative_prompt,
        "width": plan.width,
        "height": plan.height,
        "num_inference_steps": plan.steps,
        "guidance_scale": plan.guidance_scale,
        "generator": torch.Generator("cpu").manual_seed(plan.seed),
        "max_sequence_length": 12,
        "output_type": "pil",
    }
    return np.stack([np.asarray(frame) for frame in pipeline(**(call | more)).frames[0]])


def framed(bench: Bench, file: str, width: int, height: int) -> Image.Image:
    """An 80x64 picture as a 64x64 frame: no scaling, 8 columns lost on either side."""
    return Image.open(bench.settings.home / file).crop((8, 0, 8 + width, height))


def path(job: Job, index: int = 0) -> Path:
    return Path(job.artifacts[index].path)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_video_has_the_frames_of_the_unchanged_pipeline(
    bench: Bench, load: Load, frames: list[Frames], guidance: float
) -> None:
    plan = video_plan(guidance_scale=guidance)
    bench.run(plan)
    pipeline = load(ONE).pipelines[Task.TEXT_TO_VIDEO]
    assert np.array_equal(np.concatenate(frames), as_a_user_would(pipeline, plan, num_frames=5))


def test_an_image_to_video_has_the_frames_of_the_unchanged_pipeline(
    bench: Bench, load: Load, frames: list[Frames]
) -> None:
    plan = video_plan(task=Task.IMAGE_TO_VIDEO, image=(picture := bench.picture()))
    bench.run(plan)
    pipeline = load(ONE).pipelines[Task.IMAGE_TO_VIDEO]
    image = framed(bench, picture.file, 64, 64)
    assert np.array_equal(np.concatenate(frames), as_a_user_would(pipeline, plan, image=image, num_frames=5))


def test_two_experts_share_the_steps_each_with_its_guidance(bench: Bench, load: Load, frames: list[Frames]) -> None:
    plan = video_plan(TWO, steps=6, guidance_scale_2=1.5)
    bench.run(plan)
    model = load(TWO)
    calls = [0, 0]
    for index, denoiser in enumerate(model.denoisers):
        denoiser.register_forward_hook(lambda *_, index=index: calls.__setitem__(index, calls[index] + 1))
    theirs = as_a_user_would(model.pipelines[Task.TEXT_TO_VIDEO], plan, guidance_scale_2=1.5, num_frames=5)
    assert np.array_equal(np.concatenate(frames), theirs)
    assert min(calls) > 0
    assert sum(calls) == 12


def test_first_and_last_image_frame_a_video_of_two_experts(bench: Bench, load: Load, frames: list[Frames]) -> None:
    picture = bench.picture()
    plan = video_plan(TWO_OF_IMAGES, task=Task.FIRST_LAST_FRAME_TO_VIDEO, image=picture, last_image=picture)
    bench.run(plan)
    image = framed(bench, picture.file, 64, 64)
    pipeline = load(TWO_OF_IMAGES).pipelines[Task.FIRST_LAST_FRAME_TO_VIDEO]
    theirs = as_a_user_would(pipeline, plan, image=image, last_image=image, num_frames=5)
    assert np.array_equal(np.concatenate(frames), theirs)


def test_a_still_has_the_pixels_of_the_unchanged_pipeline(bench: Bench, load: Load) -> None:
    plan = image_plan()
    job = bench.run(plan)
    theirs = as_a_user_would(load(ONE).pipelines[Task.TEXT_TO_IMAGE], plan, num_frames=1)
    assert np.array_equal(np.asarray(Image.open(path(job))), theirs[0])


def test_an_image_to_image_starts_from_the_picture(bench: Bench, load: Load) -> None:
    picture = bench.picture()
    plan = image_plan(task=Task.IMAGE_TO_IMAGE, image=picture, strength=0.5, steps=4)
    ear = bench.ear(plan)
    job = bench.run(plan, ear)
    assert ear.steps == [(0, 2), (1, 2), (2, 2)]
    image = framed(bench, picture.file, 64, 64)
    pipeline = load(ONE).pipelines[Task.IMAGE_TO_IMAGE]
    theirs = as_a_user_would(pipeline, plan, video=[image], strength=0.5)
    assert np.array_equal(np.asarray(Image.open(path(job))), theirs[0])


def test_the_smallest_strength_still_takes_one_step(bench: Bench) -> None:
    plan = image_plan(task=Task.IMAGE_TO_IMAGE, image=bench.picture(), strength=0.05)
    ear = bench.ear(plan)
    bench.run(plan, ear)
    assert ear.steps == [(0, 1), (1, 1)]


def test_the_same_seed_gives_the_same_file_and_another_seed_another(bench: Bench) -> None:
    first, again, other = (path(bench.run(video_plan(seed=seed))).read_bytes() for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_a_count_gives_what_single_jobs_give(bench: Bench) -> None:
    plan = video_plan(count=2)
    ear = bench.ear(plan)
    both = bench.run(plan, ear)
    assert [artifact.seed for artifact in both.artifacts] == [11, 12]
    for index, seed in enumerate((11, 12)):
        assert path(both, index).read_bytes() == path(bench.run(video_plan(seed=seed))).read_bytes()
    one = [Stage.DENOISE, Stage.DECODE, Stage.WRITE]
    assert ear.heard == [
        (Stage.LOAD, 1),
        (Stage.ENCODE, 1),
        *((stage, 1) for stage in one),
        *((stage, 2) for stage in one),
    ]


def test_a_job_says_each_step_and_latent_frame_and_loads_only_once(bench: Bench) -> None:
    bench.run(video_plan())
    ear = bench.ear(video_plan())
    bench.run(video_plan(), ear)
    assert [stage for stage, _ in ear.heard] == [Stage.ENCODE, Stage.DENOISE, Stage.DECODE, Stage.WRITE]
    assert ear.steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert ear.details == ["0 of 2 latent frames", "1 of 2 latent frames"]


def after_step(step: int) -> Callable[[Ear], bool]:
    return lambda ear: bool(ear.steps) and ear.steps[-1][0] == step


def within_the_next_step(ear: Ear) -> bool:
    """At a block in the middle of the second step, which only the hooks see."""
    before_it = 2 + 1 + 4 + 1  # two stages entered, step 0, two blocks in each of two passes, step 1
    return bool(ear.steps) and ear.steps[-1][0] == 1 and ear.checks > before_it + 2


def within_the_decode(ear: Ear) -> bool:
    return ear.details == ["0 of 2 latent frames", "1 of 2 latent frames"]


@pytest.mark.parametrize("when", [after_step(0), after_step(1), within_the_next_step, within_the_decode])
def test_a_cancelled_job_stops_at_once_and_leaves_the_pipeline_as_it_was(
    bench: Bench, when: Callable[[Ear], bool]
) -> None:
    before = path(bench.run(video_plan())).read_bytes()
    ear = bench.ear(video_plan(seed=99))
    ear.stop_at, ear.error = when, JobCancelled
    with pytest.raises(JobCancelled):
        bench.run(video_plan(seed=99), ear)
    assert ear.heard[-1][0] is not Stage.WRITE
    assert bench.store.get(ear.job.id).artifacts == ()
    assert path(bench.run(video_plan())).read_bytes() == before


def test_a_cancel_in_the_job_table_stops_a_running_job(bench: Bench) -> None:
    ear = bench.ear(video_plan(steps=100))
    bench.store.cancel(ear.job.id)
    with pytest.raises(JobCancelled):
        bench.run(ear.job.plan, ear)


def test_prompts_are_encoded_once(bench: Bench) -> None:
    bench.run(video_plan())
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    runner_in(bench.runner)._model.any_pipeline.text_encoder.register_forward_hook(count)
    bench.run(video_plan(seed=1, count=2))
    assert calls == 0
    bench.run(video_plan(prompt="a blue square"))
    assert calls == 1


def test_a_prompt_longer_than_the_model_reads_is_noted_and_another_is_not(bench: Bench) -> None:
    assert bench.run(video_plan()).notes == ()
    (note,) = bench.run(video_plan(prompt="a red circle " * 20)).notes
    assert "the prompt has" in note
    assert "the end was cut off" in note


def test_numbers_that_are_not_finite_fail_the_job_and_spare_the_next(bench: Bench) -> None:
    before = path(bench.run(video_plan())).read_bytes()
    bias = runner_in(bench.runner)._model.denoisers[0].proj_out.bias
    kept = bias.detach().clone()
    bias.data.fill_(float("nan"))
    with pytest.raises(JobFailed, match="another seed") as failure:
        bench.run(video_plan())
    assert failure.value.code == "bad_numbers"
    bias.data.copy_(kept)
    assert path(bench.run(video_plan())).read_bytes() == before


def test_running_out_of_memory_fails_the_job_with_smaller_sizes_and_spares_the_next(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path(bench.run(video_plan(num_frames=9))).read_bytes()

    def too_much(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch, pytest.raises(JobFailed) as failure:
        patch.setattr(FrameDecoder, "frames", too_much)
        bench.run(video_plan(num_frames=9))
    assert failure.value.code == "out_of_memory"
    assert "small (32x32) with up to 17 frames" in str(failure.value)
    assert path(bench.run(video_plan(num_frames=9))).read_bytes() == before


def test_a_last_image_is_refused_where_the_model_takes_only_the_first(bench: Bench) -> None:
    picture = bench.picture()
    with pytest.raises(JobFailed, match="omit last_image"):
        bench.run(video_plan(task=Task.IMAGE_TO_VIDEO, image=picture, last_image=picture))


def test_a_picture_that_is_gone_fails_the_job_with_what_to_do(bench: Bench) -> None:
    picture = bench.picture()
    (bench.settings.home / picture.file).unlink()
    with pytest.raises(JobFailed, match="Submit it again") as failure:
        bench.run(video_plan(task=Task.IMAGE_TO_VIDEO, image=picture))
    assert failure.value.code == "input_missing"


def test_a_video_is_what_its_artifact_says_and_carries_its_receipt(bench: Bench) -> None:
    picture = bench.picture()
    job = bench.run(video_plan(task=Task.IMAGE_TO_VIDEO, image=picture, count=2))
    artifact = job.artifacts[1]
    facts = probe(Path(artifact.path))
    assert (facts.width, facts.height, facts.frames, facts.fps) == (64, 64, 5, 8.0)
    assert (artifact.width, artifact.height, artifact.frames, artifact.fps) == (64, 64, 5, 8.0)
    assert artifact.bytes == Path(artifact.path).stat().st_size
    receipt = read_receipt(Path(artifact.path))
    assert receipt is not None
    assert (receipt["request"]["seed"], receipt["request"]["count"]) == (12, 1)
    assert receipt["request"]["prompt"] == "a red circle moving left"
    assert receipt["request"]["image"] == {"sha256": picture.sha256, "width": 80, "height": 64}
    assert set(receipt) == {
        "request",
        "weights_sha256",
        "device",
        "precision",
        "quality",
        "wan_mcp",
        "torch",
        "diffusers",
    }
    assert receipt["quality"] == "exact"
    assert str(bench.settings.home) not in str(receipt)


def test_a_still_carries_its_receipt(bench: Bench) -> None:
    receipt = read_receipt(path(bench.run(image_plan())))
    assert receipt is not None
    assert receipt["request"]["seed"] == 11
