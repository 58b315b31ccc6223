"""Estimates come from what was measured, and only from that."""

import sqlite3
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan
from wan_mcp.catalog.costs import Costs
from wan_mcp.jobs.database import MIGRATIONS, Database
from wan_mcp.jobs.step_time_model import StepTimeModel
from wan_mcp.jobs.timings import KEPT, Timings, Work, stage_work, variant_of
from wan_mcp.schema.enums import Stage, Task
from wan_mcp.schema.plans import ImagePlan, StepCache

EVEN_AT = 30_000


@pytest.fixture
def timings(database: Database) -> Timings:
    return Timings(database)


def tokens(size: float, passes: int = 1) -> Work:
    return Work(size, passes=passes, even_at=EVEN_AT)


def test_nothing_is_promised_before_anything_is_measured(timings: Timings) -> None:
    assert timings.seconds("cpu", "wan-mini", Stage.DENOISE, Work(100)) is None
    assert timings.expect("cpu", video_plan()) is None


def test_the_median_of_the_last_measurements_counts(timings: Timings) -> None:
    for seconds in [9.0] * KEPT + [1.0, 2.0, 3.0] * (KEPT // 3):
        timings.record("cpu", "wan-mini", Stage.DECODE, Work(100), seconds)
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, Work(100)) == 2.0


def test_another_size_is_scaled_from_the_nearest_one(timings: Timings) -> None:
    timings.record("cpu", "wan-mini", Stage.DECODE, Work(100), 1.0)
    timings.record("cpu", "wan-mini", Stage.DECODE, Work(1000), 20.0)
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, Work(200)) == 2.0
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, Work(900)) == 18.0


def test_a_step_at_a_size_never_measured_lies_on_the_curve_through_those_that_were(timings: Timings) -> None:
    # Measured on one H200, blocks compiled in FP8: 2.36 s at 32,760 tokens, 10.2 s at 75,600.
    for size, seconds in ((32_760, 2.36), (75_600, 10.2)):
        for noise in (1.0, 0.99, 1.01, 8.0):  # the last: somebody else used the GPU
            timings.record("cuda:0", "wan", Stage.DENOISE, tokens(size), seconds * noise)
        timings.record("cuda:0", "wan", Stage.DENOISE, tokens(size), seconds)
    between = timings.seconds("cuda:0", "wan", Stage.DENOISE, tokens(42_588))
    assert between == pytest.approx(3.68, rel=0.01)
    small = timings.seconds("cuda:0", "wan", Stage.DENOISE, tokens(1_560))
    assert small == pytest.approx(2.395e-5 * 1_560 + 1.468e-9 * 1_560**2, rel=0.01)


def test_one_measured_size_is_scaled_as_the_operations_grow(timings: Timings) -> None:
    timings.record("cuda:0", "wan", Stage.DENOISE, tokens(EVEN_AT), 2.0)
    assert timings.seconds("cuda:0", "wan", Stage.DENOISE, tokens(2 * EVEN_AT)) == pytest.approx(2.0 + 4.0)
    assert timings.seconds("cuda:0", "wan", Stage.DENOISE, tokens(300)) == pytest.approx(0.01 * 1.01)


def test_the_curve_is_that_of_a_real_gpu() -> None:
    # Seconds of 40 blocks of A14B on an H200, compiled in FP8.
    measured: dict[float, float] = {3_600: 0.0938, 32_760: 2.228, 75_600: 9.954}
    fitted = StepTimeModel.fitted(measured, EVEN_AT)
    assert {tokens: fitted.at(tokens) for tokens in measured} == pytest.approx(measured, rel=0.01)
    for left_out, seconds in measured.items():
        others = {tokens: each for tokens, each in measured.items() if tokens != left_out}
        assert StepTimeModel.fitted(others, EVEN_AT).at(left_out) == pytest.approx(seconds, rel=0.06)
        alone = StepTimeModel.fitted({left_out: seconds}, Costs().even_at)
        assert {tokens: alone.at(tokens) for tokens in measured} == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize("per_token", [0.0, 3e-5])
@pytest.mark.parametrize("per_square", [0.0, 2e-9])
def test_the_fit_finds_both_factors_and_neither_is_negative(per_token: float, per_square: float) -> None:
    if not per_token and not per_square:
        return
    truth = StepTimeModel(per_token, per_square)
    fitted = StepTimeModel.fitted({size: truth.at(size) for size in (1_500, 9_000, 33_000, 75_000)}, EVEN_AT)
    assert fitted.per_token == pytest.approx(per_token, abs=1e-9)
    assert fitted.per_square == pytest.approx(per_square, abs=1e-13)
    assert min(fitted.per_token, fitted.per_square) >= 0


@pytest.mark.parametrize("measured", [{100: 1.0, 200: 1.0, 400: 1.0}, {100: 1.0, 200: 8.0, 400: 64.0}, {100: 0.0}])
def test_measurements_that_follow_no_such_curve_still_give_sensible_times(measured: dict[float, float]) -> None:
    fitted = StepTimeModel.fitted(measured, EVEN_AT)
    assert min(fitted.per_token, fitted.per_square) >= 0
    assert fitted.at(800) >= fitted.at(100) >= 0


def test_devices_and_models_are_kept_apart(timings: Timings) -> None:
    timings.record("cpu", "wan-mini", Stage.LOAD, Work(1), 1.0)
    assert timings.seconds("cuda:0", "wan-mini", Stage.LOAD, Work(1)) is None
    assert timings.seconds("cpu", "other", Stage.LOAD, Work(1)) is None


def test_a_job_is_expected_to_take_its_stages_times_its_pieces(timings: Timings) -> None:
    plan = video_plan(steps=10, count=3)
    for stage, work in stage_work(plan).items():
        timings.record("cpu", "wan-mini", stage, work, 0.5)
    expected = timings.expect("cpu", plan)
    assert expected == {Stage.LOAD: 0.5, Stage.ENCODE: 0.5, Stage.DENOISE: 15, Stage.DECODE: 1.5, Stage.WRITE: 1.5}
    assert Stage.LOAD not in (timings.expect("cpu", plan, loaded=True) or {})


def test_variants_are_not_mixed_and_the_latest_way_is_expected_again(timings: Timings) -> None:
    plan = video_plan(steps=1)
    turbo = plan.model_copy(update={"turbo": True})
    cached = plan.model_copy(update={"step_cache": StepCache(threshold=0.1)})
    for way, seconds in (("fp8", 4.0), ("fp8+aot", 2.0)):
        for stage, work in stage_work(plan).items():
            timings.record("cpu", "wan-mini", stage, work, seconds, variant_of(plan, way))
    assert timings.latest_way("cpu", plan) == "fp8+aot"
    assert (timings.expect("cpu", plan) or {})[Stage.DENOISE] == 2.0
    assert (timings.expect("cpu", plan, variant="fp8") or {})[Stage.DENOISE] == 4.0
    assert timings.expect("cpu", plan, variant="bf16") is None
    assert timings.expect("cpu", turbo) is None
    assert timings.expect("cpu", cached) is None
    timings.record("cpu", "wan-mini", Stage.DENOISE, stage_work(turbo)[Stage.DENOISE], 1.0, variant_of(turbo, "fp8"))
    assert (timings.expect("cpu", turbo) or {})[Stage.DENOISE] == 1.0
    assert (timings.expect("cpu", plan) or {})[Stage.DENOISE] == 2.0


def test_a_pass_without_guidance_is_known_from_steps_with_it(timings: Timings) -> None:
    plan = video_plan()
    without = plan.model_copy(update={"guidance_scale": 1.0})
    timings.record("cpu", "wan-mini", Stage.DENOISE, stage_work(plan)[Stage.DENOISE], 3.0)
    assert timings.seconds("cpu", "wan-mini", Stage.DENOISE, stage_work(without)[Stage.DENOISE]) == 1.5


def test_strength_shortens_the_run() -> None:
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
        tokens=16,
        even_at=EVEN_AT,
    )
    assert stage_work(image)[Stage.DENOISE] == Work(16, pieces=5, passes=1, even_at=EVEN_AT)


def test_a_table_of_an_older_version_forgets_its_steps_and_keeps_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    with sqlite3.connect(file) as old:
        old.executescript(MIGRATIONS[0])
        old.execute("PRAGMA user_version = 1")
        for stage in ("denoising", "decoding"):
            old.execute("INSERT INTO timings VALUES ('cpu', 'wan-mini', ?, 100, 1.0, 1.0)", (stage,))
    old.close()
    database = Database(file)
    timings = Timings(database)
    assert timings.seconds("cpu", "wan-mini", Stage.DECODE, Work(100)) == 1.0
    assert timings.seconds("cpu", "wan-mini", Stage.DENOISE, tokens(100)) is None
    timings.record("cpu", "wan-mini", Stage.DENOISE, tokens(100), 1.0, "fp8")
    database.close()
