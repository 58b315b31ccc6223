"""Whole jobs on several ranks: the files of one process, alike every time, and an end that no rank misses."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fixtures.bench import ONE, TWO, TWO_OF_IMAGES, Bench, image_plan, video_plan
from tests.support.rank_processes import RankProcesses, rank_processes
from wan_mcp.engine.families.wan.shared_job import why_not_shared
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import Plan, ShotPlan, StepCache

UNGUIDED = {"guidance_scale": 1.0}


class Jobs:
    """Jobs in one home."""

    def __init__(self, ranks: RankProcesses, home: Path, embedded: Path) -> None:
        self._ranks = ranks
        self._given: dict[str, Any] = {"home": home, "embedded": embedded}

    def run(self, count: int, plan: Plan, **more: Any) -> list[Any]:
        """Run a plan on this many ranks; what each of them returned."""
        return self._ranks.run(count, "job", plan=plan, **self._given, **more)

    def frames(self, count: int, plan: Plan, **more: Any) -> Any:
        """Run a plan; its frames and its receipt."""
        return self.run(count, plan, **more)[0]


@pytest.fixture(scope="module")
def jobs(ranks: RankProcesses, tmp_path_factory: pytest.TempPathFactory, embedded: Path) -> Jobs:
    return Jobs(ranks, tmp_path_factory.mktemp("home"), embedded)


def mini_plan(**changes: Any) -> Plan:
    """A small video of the embedded model."""
    return video_plan("wan-mini", **{"width": 64, "height": 64, "num_frames": 9, "steps": 4} | changes)


@pytest.mark.parametrize(
    "plan",
    [video_plan(TWO, count=2), image_plan(ONE), mini_plan(), mini_plan(prompt="red", negative_prompt="red")],
    ids=["video of two experts", "image", "wan-mini", "the same text twice"],
)
def test_with_guidance_two_ranks_make_the_very_frames_of_one(jobs: Jobs, plan: Plan) -> None:
    alone, _ = jobs.frames(1, plan)
    shared, receipt = jobs.frames(2, plan)
    assert np.array_equal(shared, alone)
    assert (receipt["gpus"], receipt["context_parallel"]) == (2, 1)


@pytest.mark.parametrize(
    ("count", "plan"),
    [
        (2, video_plan(TWO, guidance_scale_2=1.0, **UNGUIDED)),
        (4, video_plan(ONE)),
        (2, mini_plan(**UNGUIDED)),
    ],
    ids=["without guidance", "four ranks with guidance", "wan-mini"],
)
def test_in_fp8_ranks_make_nearly_the_frames_of_one_and_the_same_every_time(jobs: Jobs, count: int, plan: Plan) -> None:
    alone, plain = jobs.frames(1, plan, fp8=True)
    shared, receipt = jobs.frames(count, plan, fp8=True)
    again, _ = jobs.frames(count, plan, fp8=True)
    assert np.array_equal(shared, again)
    assert np.abs(shared.astype(int) - alone).mean() < 0.5  # of 255; FP8 against full precision differs by more
    assert receipt["gpus"] == count
    assert "gpus" not in plain


def test_the_image_of_a_job_is_read_by_every_rank(
    jobs: Jobs, bench: Bench, ranks: RankProcesses, embedded: Path
) -> None:
    task = Task.IMAGE_TO_VIDEO
    plan = video_plan(TWO_OF_IMAGES, task=task, image=bench.picture(), guidance_scale_2=1.0, **UNGUIDED)
    in_home = Jobs(ranks, bench.settings.home, embedded)
    alone, _ = in_home.frames(1, plan, fp8=True)
    shared, _ = in_home.frames(2, plan, fp8=True)
    assert np.abs(shared.astype(int) - alone).mean() < 0.5


def test_a_cancel_stops_all_ranks_after_the_same_step_and_the_next_job_runs(jobs: Jobs) -> None:
    plan = video_plan(TWO, steps=5)
    first, second = jobs.run(2, plan, stop_after=2)
    assert first[0] == "JobCancelled"
    assert second == ("RankLost", "another device of this job stopped")
    assert np.array_equal(jobs.frames(2, plan)[0], jobs.frames(1, plan)[0])


def test_engines_of_other_versions_make_no_job_together(jobs: Jobs) -> None:
    for answer in jobs.run(2, mini_plan(), older=1):
        assert answer == ("RankLost", "the devices of this job do not run the model alike")


@pytest.mark.parametrize("dies", [0, 1])
def test_a_rank_killed_at_a_random_step_ends_the_attempt_on_the_other(
    tmp_path: Path, embedded: Path, dies: int
) -> None:
    step = random.Random(dies).randint(1, 4)
    with rank_processes(2) as two:
        answers = Jobs(two, tmp_path, embedded).run(2, video_plan(TWO, steps=5), die=(dies, step))
    assert answers[dies] is None
    assert answers[1 - dies][0] == "RankLost"


@pytest.mark.parametrize(
    ("changes", "ranks", "why"),
    [
        ({}, 2, None),
        ({"step_cache": StepCache(threshold=0.1)}, 2, "step cache"),
        ({"shots": (ShotPlan(prompt="b", prompt_asked="b", seed=3),)}, 2, "several shots"),
        (UNGUIDED, 2, "as diffusers has them"),
        ({}, 3, "as diffusers has them"),
    ],
)
def test_what_cannot_be_shared_is_said(embedded: Path, changes: Any, ranks: int, why: str | None, load: Any) -> None:
    found = why_not_shared(load(TWO), video_plan(TWO, **changes), ranks)
    assert (found is None) if why is None else (found is not None and why in found)
