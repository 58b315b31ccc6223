"""Estimates come from what was measured, and only from that."""

import pytest

from tests.jobs.conftest import video_plan
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.timings import KEPT, Timings, stage_sizes
from wan_mcp.specs import ImagePlan, Stage, Task


@pytest.fixture
def timings(database: Database) -> Timings:
    return Timings(database)


def test_nothing_is_promised_before_anything_is_measured(timings: Timings) -> None:
    assert timings.seconds("cpu", "wan-mini", Stage.DENOISE, 100) is None
    assert timings.expect("cpu", video_plan()) is None


def test_the_median_of_the_last_measurements_counts(timings: Timings) -> None:
    for seconds in [9.0] * KEPT + [1.0, 2.0, 3.0] * (KEPT // 3):
        timings.record("cpu", "wan-mini", Stage.DECODE, 100, seconds)
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, 100) == 2.0


def test_another_size_is_scaled_from_the_nearest_one(timings: Timings) -> None:
    timings.record("cpu", "wan-mini", Stage.DECODE, 100, 1.0)
    timings.record("cpu", "wan-mini", Stage.DECODE, 1000, 20.0)
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, 200) == 2.0
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, 900) == 18.0


def test_devices_and_models_are_kept_apart(timings: Timings) -> None:
    timings.record("cpu", "wan-mini", Stage.LOAD, 1, 1.0)
    assert timings.seconds("cuda:0", "wan-mini", Stage.LOAD, 1) is None
    assert timings.seconds("cpu", "other", Stage.LOAD, 1) is None


def test_a_job_is_expected_to_take_its_stages_times_its_pieces(timings: Timings) -> None:
    plan = video_plan(steps=10, count=3)
    for stage, (size, _) in stage_sizes(plan).items():
        timings.record("cpu", "wan-mini", stage, size, 0.5)
    expected = timings.expect("cpu", plan)
    assert expected == {Stage.LOAD: 0.5, Stage.ENCODE: 0.5, Stage.DENOISE: 15, Stage.DECODE: 1.5, Stage.WRITE: 1.5}
    assert Stage.LOAD not in (timings.expect("cpu", plan, loaded=True) or {})


def test_guidance_doubles_a_step_and_strength_shortens_the_run() -> None:
    plan = video_plan(steps=10)
    with_guidance, _ = stage_sizes(plan)[Stage.DENOISE]
    without, _ = stage_sizes(plan.model_copy(update={"guidance_scale": 1.0}))[Stage.DENOISE]
    assert with_guidance == 2 * without
    image = ImagePlan(
        task=Task.IMAGE_TO_IMAGE,
        model="m",
        prompt="p",
        prompt_asked="p",
        negative_prompt="",
        style=None,
        width=64,
        height=64,
        steps=10,
        guidance_scale=1,
        seed=0,
        count=1,
        strength=0.5,
    )
    assert stage_sizes(image)[Stage.DENOISE] == (64 * 64, 5)
