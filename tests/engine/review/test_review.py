"""The results of a job are compared with its prompt by the embedded captioner, whatever becomes of the engine."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from smallworld.captions import caption, pictures
from smallworld.render import render, to_uint8
from smallworld.world import sample
from tests.fixtures.bench import Bench, Ear, image_plan, video_plan
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine import runner as runner_module
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.review import room
from wan_mcp.errors import JobCancelled, JobFailed
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.reviews import REVIEWS_ALLOWED, begin_review
from wan_mcp.media.store import MediaName, whole
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import JobState, Kind, Stage
from wan_mcp.schema.jobs import Artifact, Job
from wan_mcp.schema.plans import ImagePlan, Plan, VideoPlan

Frames = NDArray[np.uint8]
SEED = 7
CHECK: dict[str, Any] = {"model": "wan-mini", "check": "wan-mini-caption", "steps": 1}


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A runner with the embedded models, and a home that several tests share."""
    bench = Bench(tmp_path_factory.mktemp("home"), EMBEDDED)
    bench.catalog.manifests.update(Catalog(shipped_folder()).manifests)
    yield bench
    bench.runner.close()
    bench.store.database.close()


def asking(plan: ImagePlan | VideoPlan, prompt: str) -> ImagePlan | VideoPlan:
    return plan.model_copy(update={"prompt": prompt, "prompt_asked": prompt})


def artifact(bench: Bench, job: Job, index: int, frames: Frames) -> Artifact:
    """A result of a job with these pixels."""
    name, (_, height, width, _) = MediaName.of(job.id, index, job.plan.kind), frames.shape
    if job.plan.kind is Kind.VIDEO:
        writer = VideoWriter(bench.media, name, (width, height), len(frames), 8.0, {})
        writer.add(frames)
        return writer.finish(SEED + index)
    with whole(bench.media.path(name)) as temporary:
        Image.fromarray(frames[0]).save(temporary, "png")
    return Artifact(
        uri=name.uri, mime_type=name.mime_type, bytes=1, width=width, height=height, seed=SEED + index,
        path=str(bench.media.path(name)),
    )  # fmt: skip


def interrupted(bench: Bench, plan: Plan, results: Sequence[Frames]) -> Job:
    """A job whose engine died while it checked these results, claimed again."""
    job = bench.job(plan)
    for index, frames in enumerate(results):
        bench.store.add_artifact(job, artifact(bench, job, index, frames))
    begin_review(bench.store.database, job)
    [again] = bench.store.requeue_orphans(bench.settings.device, lambda engine: Death.CRASHED)
    assert again.state is JobState.QUEUED
    claimed = bench.store.claim(bench.settings.device)
    assert claimed is not None
    assert claimed.id == job.id
    return claimed


def finished(bench: Bench, job: Job) -> Job:
    """The job after the runner has run it."""
    ear = Ear(job, bench.store, bench.settings)
    with ear as report:
        bench.runner.run(job, report)
    assert Stage.DENOISE not in [stage for stage, _ in ear.heard]
    bench.store.finish(job, JobState.SUCCEEDED)
    return bench.store.get(job.id)


def scenes(count: int, frames: int, seed: int) -> list[tuple[str, Frames]]:
    """Prompts of the small world, each with a clip of what it says."""
    rng, drawn = Random(seed), sample(count, (128, 128), frames, seed)
    clips = to_uint8(render(drawn, frames=frames)).permute(0, 2, 3, 4, 1).numpy()
    told = [caption(picture, rng, still=frames == 1).text for picture in pictures(drawn)]
    return list(zip(told, clips, strict=True))


def plan_of(frames: int, count: int = 1, **changes: Any) -> ImagePlan | VideoPlan:
    size: dict[str, Any] = {"width": 128, "height": 128, "count": count}
    if frames == 1:
        return image_plan(**CHECK, **size, **changes)
    return video_plan(**CHECK, **size, num_frames=frames, **changes)


@pytest.mark.parametrize("frames", [1, 9])
def test_a_result_is_compared_with_what_its_prompt_says(frames: int, captioner: Bench) -> None:
    told = scenes(3, frames, 3)
    right = wrong = 0
    for number, (prompt, clip) in enumerate(told):
        own = finished(captioner, interrupted(captioner, asking(plan_of(frames), prompt), [clip])).artifacts[0].check
        of_another = asking(plan_of(frames), told[number - 1][0])
        other = finished(captioner, interrupted(captioner, of_another, [clip])).artifacts[0].check
        assert own is not None and other is not None
        right += not own.missing
        wrong += bool(other.missing)
    assert (right, wrong) == (len(told), len(told))


def test_a_job_checks_what_it_makes_and_says_so_in_a_line(captioner: Bench) -> None:
    job = captioner.run(plan_of(1))
    [found] = [note for note in job.notes if note.startswith("check by 'wan-mini-caption': ")]
    check = job.artifacts[0].check
    assert check is not None
    assert all(each in found for each in check.missing)
    assert check.says


def test_results_that_are_there_are_not_made_again_after_a_crash(captioner: Bench) -> None:
    [(prompt, clip)] = scenes(1, 1, 5)
    claimed = interrupted(captioner, asking(plan_of(1), prompt), [clip])
    before = Path(claimed.artifacts[0].path).stat().st_mtime_ns
    job = finished(captioner, claimed)
    assert Path(job.artifacts[0].path).stat().st_mtime_ns == before
    assert job.artifacts[0].check is not None


def test_a_check_that_ends_every_engine_does_not_fail_the_job(captioner: Bench) -> None:
    [(prompt, clip)] = scenes(1, 1, 5)
    claimed = interrupted(captioner, asking(plan_of(1), prompt), [clip])
    for _ in range(REVIEWS_ALLOWED - 1):
        begin_review(captioner.store.database, claimed)
        captioner.store.requeue_orphans(captioner.settings.device, lambda engine: Death.CRASHED)
        again = captioner.store.claim(captioner.settings.device)
        assert again is not None
        claimed = again
    job = finished(captioner, claimed)
    assert job.artifacts[0].check is None
    assert any("was not checked" in note for note in job.notes)


def test_a_result_that_was_deleted_meanwhile_is_made_again(captioner: Bench) -> None:
    [(prompt, clip)] = scenes(1, 1, 5)
    claimed = interrupted(captioner, asking(plan_of(1), prompt), [clip])
    Path(claimed.artifacts[0].path).unlink()
    with Ear(claimed, captioner.store, captioner.settings) as report:
        captioner.runner.run(claimed, report)
    captioner.store.finish(claimed, JobState.SUCCEEDED)
    [made] = captioner.store.get(claimed.id).artifacts
    assert Path(made.path).is_file()
    assert made.check is not None


def test_the_best_of_several_is_kept_and_the_others_are_named(captioner: Bench) -> None:
    told = scenes(3, 1, 3)
    plan = asking(plan_of(1, count=3, pick="best"), told[1][0])
    job = finished(captioner, interrupted(captioner, plan, [clip for _, clip in told]))
    [kept] = job.artifacts
    assert kept.seed == SEED + 1
    files = sorted(captioner.media.path(MediaName.of(job.id, 0, Kind.IMAGE)).parent.glob(f"{job.id}-*"))
    assert files == [Path(kept.path)]
    [note] = [note for note in job.notes if note.startswith("picked")]
    assert f"seed {SEED} (" in note
    assert f"seed {SEED + 2} (" in note


def test_none_is_picked_where_nothing_can_be_compared(captioner: Bench) -> None:
    plan = asking(plan_of(1, count=2, pick="best"), "a castle in the fog")
    job = finished(captioner, interrupted(captioner, plan, [clip for _, clip in scenes(2, 1, 3)]))
    assert len(job.artifacts) == 2
    assert any("none was picked" in note for note in job.notes)


@pytest.mark.parametrize(
    "failure", [torch.OutOfMemoryError("out of memory"), JobFailed("x", "broken"), ValueError("?")]
)
def test_a_captioner_that_cannot_be_loaded_costs_the_job_nothing(
    failure: Exception, captioner: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner.run(plan_of(1))
    captioner.runner._drop("captioner")
    generator = captioner.runner._models["generator"]

    def fail(*_: Any) -> Any:
        raise failure

    monkeypatch.setattr(runner_module, "load_model", fail)
    job = captioner.run(plan_of(1))
    assert job.state is JobState.SUCCEEDED
    assert any("was not checked" in note for note in job.notes)
    assert captioner.runner._models["generator"] is generator


def test_a_captioner_without_room_does_not_push_the_generator_out(
    captioner: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    captioner.run(plan_of(1))
    captioner.runner._drop("captioner")
    monkeypatch.setattr(room, "available_bytes", lambda device: -1)
    job = captioner.run(plan_of(1))
    assert "generator" in captioner.runner._models
    assert any("no room for 'wan-mini-caption'" in note for note in job.notes)


def test_a_job_can_be_cancelled_while_it_is_checked(captioner: Bench) -> None:
    [(prompt, clip)] = scenes(1, 1, 5)
    claimed = interrupted(captioner, asking(plan_of(1), prompt), [clip])
    ear = Ear(claimed, captioner.store, captioner.settings)
    ear.stop_at, ear.error = lambda ear: bool(ear.details), JobCancelled
    with pytest.raises(JobCancelled), ear as report:
        captioner.runner.run(claimed, report)
    captioner.store.finish(claimed, JobState.CANCELLED)
