"""Videos of several shots: one file without a jump, and the same one however often the engine was ended."""

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.bench import Bench, Ear, video_plan
from tests.support.videos import read_frames
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.worker.reporter import EngineShutdown
from wan_mcp.errors import JobFailed
from wan_mcp.media.ingest import InputImages
from wan_mcp.media.input_videos import InputVideos
from wan_mcp.media.kept_shots import KeptShots, remove_shots, sweep_shots
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import Stage, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import ShotPlan, VideoPlan


def shots_plan(model: str | None = None, count: int = 3, **values: Any) -> VideoPlan:
    """A plan of so many shots."""
    plan = video_plan(**({"model": model} if model else {}), **values)
    prompts = [f"it goes on, {index}" for index in range(1, count)]
    shots = [ShotPlan(prompt=text, prompt_asked=text, seed=plan.seed + i) for i, text in enumerate(prompts, start=1)]
    return plan.model_copy(update={"shots": tuple(shots)})


def kept(bench: Bench) -> list[str]:
    return [file.name for file in (bench.settings.home / "media" / "shots").glob("*")]


def end_at(item: int) -> Any:
    """Stop in the second denoising step of a shot."""
    return lambda ear: ear.heard[-1:] == [(Stage.DENOISE, item)] and ear.steps[-1:] == [(2, 3)]


def denoised(ear: Ear) -> list[int]:
    return [item for stage, item in ear.heard if stage is Stage.DENOISE]


def bytes_of(job: Job) -> bytes:
    [artifact] = job.artifacts
    return Path(artifact.path).read_bytes()


def test_shots_become_one_file_with_one_receipt_that_has_all_seeds(bench: Bench) -> None:
    plan = shots_plan()
    ear = bench.ear(plan)
    job = bench.run(plan, ear)
    [artifact] = job.artifacts
    assert artifact.frames == plan.total_frames == 3 * plan.num_frames - 2
    assert len(read_frames(Path(artifact.path))) == plan.total_frames
    assert denoised(ear) == [1, 2, 3]
    receipt = read_receipt(Path(artifact.path))
    assert receipt is not None
    assert receipt["request"]["seed"] == plan.seed
    assert [shot["seed"] for shot in receipt["request"]["shots"]] == [plan.seed + 1, plan.seed + 2]


@pytest.mark.parametrize("item", [1, 2, 3])
def test_an_engine_that_ends_in_a_shot_loses_that_shot_only_and_the_bytes_are_the_same(bench: Bench, item: int) -> None:
    plan = shots_plan()
    whole = bytes_of(bench.run(plan))
    ear = bench.ear(plan)
    ear.error, ear.stop_at = EngineShutdown, end_at(item)
    with ear, pytest.raises(EngineShutdown):
        bench.runner.run(ear.job, ear)
    assert len([name for name in kept(bench) if name.startswith(ear.job.id)]) == item - 1
    again = Ear(ear.job, bench.store, bench.settings)
    job = bench.run(plan, again)
    assert denoised(again) == list(range(item, 4))
    assert bytes_of(job) == whole
    fractions = [again._estimator.fraction(Stage.DENOISE)]
    assert fractions[0] > 0.9


def test_a_video_that_is_extended_comes_first_in_one_file_with_both_receipts(bench: Bench) -> None:
    before = bench.run(video_plan(seed=3))
    [old] = before.artifacts
    source = InputVideos(bench.media, 1).take(before.id)
    assert (source.frames, source.fps, source.source) == (5, 8.0, old.uri)
    inputs = InputImages(bench.media, [], 1, 1)
    image = inputs.take(old.uri, None, "last")
    Path(old.path).unlink()  # the video was kept
    plan = shots_plan(count=2, task=Task.IMAGE_TO_VIDEO, image=image).model_copy(update={"extends": source})
    ear = bench.ear(plan)
    ear.error, ear.stop_at = EngineShutdown, end_at(2)
    with ear, pytest.raises(EngineShutdown):
        bench.runner.run(ear.job, ear)
    again = Ear(ear.job, bench.store, bench.settings)
    [new] = bench.run(plan, again).artifacts
    assert denoised(again) == [2]
    frames = read_frames(Path(new.path))
    assert len(frames) == new.frames == plan.total_frames == 5 + 2 * 4
    kept_video = read_frames(bench.settings.home / source.file)
    assert np.abs(frames[:5].astype(int) - kept_video).mean() < 3
    receipt = read_receipt(Path(new.path))
    assert receipt is not None
    assert receipt["request"]["extends"]["sha256"] == source.sha256
    assert receipt["extends"]["request"]["seed"] == 3


def test_a_video_that_was_lost_before_it_is_extended_fails_the_job_with_words(bench: Bench) -> None:
    before = bench.run(video_plan(seed=3))
    source = InputVideos(bench.media, 1).take(before.id)
    image = InputImages(bench.media, [], 1, 1).take(source.source, None, "last")
    (bench.settings.home / source.file).unlink()
    plan = video_plan(task=Task.IMAGE_TO_VIDEO, image=image, extends=source)
    with pytest.raises(JobFailed, match="is no longer in the home folder"):
        bench.run(plan)


def test_kept_shots_of_other_weights_or_another_request_are_not_joined(bench: Bench) -> None:
    plan = shots_plan()
    whole = bytes_of(bench.run(plan))
    ear = bench.ear(plan)
    other = KeptShots(bench.settings.home, ear.job.id, {"weights_sha256": "others"})
    other.keep(0, np.zeros((plan.num_frames, plan.height, plan.width, 3), np.uint8))
    assert bytes_of(bench.run(plan, ear)) == whole
    assert denoised(ear) == [1, 2, 3]


def test_a_shot_that_was_cut_short_or_damaged_on_the_disk_is_made_again(bench: Bench) -> None:
    shots = KeptShots(bench.settings.home, "0" * 20, {})
    shots.keep(0, np.ones((5, 8, 8, 3), np.uint8))
    assert shots.frames(0) is not None
    [file] = (bench.settings.home / "media" / "shots").glob("*.npy")
    whole = file.read_bytes()
    for damaged in (whole[:-8], whole[:50], b"", whole.replace(b"}", b"("), whole.replace(b"(5", b"(-1"), whole[::-1]):
        file.write_bytes(damaged)
        assert shots.frames(0) is None


def test_shots_are_removed_with_their_job_and_at_the_next_start_if_it_has_ended(bench: Bench) -> None:
    home = bench.settings.home
    for name in ("0" * 20, "1" * 20, "2" * 20):
        KeptShots(home, name, {}).keep(0, np.ones((1, 8, 8, 3), np.uint8))
    sweep_shots(home, {"1" * 20, "2" * 20})
    assert sorted(name[0] for name in kept(bench)) == ["1", "2"]
    remove_shots(home, "1" * 20)
    assert [name[0] for name in kept(bench)] == ["2"]


def test_a_seam_of_wan_mini_is_no_larger_than_the_steps_between_its_neighbours(bench: Bench) -> None:
    """`benchmarks/seams.py` measures more of them."""
    bench.catalog.manifests["wan-mini"] = Catalog.of(Path("no-home")).get("wan-mini")
    bench.runner._embedded = EMBEDDED
    plan = shots_plan("wan-mini", 2, width=128, height=128, num_frames=9, steps=8, prompt="a red circle moves right")
    [artifact] = bench.run(plan).artifacts
    frames = read_frames(Path(artifact.path)).astype(float)
    steps = [10 * math.log10(255**2 / float(((a - b) ** 2).mean() or 1e-3)) for a, b in pairwise(frames)]
    seam = plan.num_frames - 1
    assert steps[seam] > min(steps[seam - 2 : seam] + steps[seam + 1 : seam + 3]) - 1.0, steps
