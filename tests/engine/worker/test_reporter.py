"""Signs of life: until when an engine that works on a job may be silent."""

import time
from collections.abc import Callable, Iterator

import pytest

from tests.fixtures.bench import Bench, video_plan
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import Stage

STEP_S, LOAD_S = 3000.0, 50_000.0
"""So long that no pause of a busy machine is as long."""


@pytest.fixture
def report(bench: Bench) -> Iterator[Reporter]:
    settings = bench.settings.model_copy(update={"step_deadline_s": STEP_S, "load_deadline_s": LOAD_S})
    WorkerRegistry(bench.store.database).register("cpu", 0.0)
    with Reporter(bench.job(video_plan()), bench.store, settings) as reporter:
        yield reporter


@pytest.fixture
def silence(bench: Bench) -> Callable[[Callable[[float], bool]], float]:
    """`silence(test)`: the seconds of silence that are allowed, once `test` holds for them."""

    def allowed(test: Callable[[float], bool]) -> float:
        watch = bench.store.database.watch()
        end = time.monotonic() + PATIENCE_S
        try:
            while time.monotonic() < end:
                row = WorkerRegistry(bench.store.database).get("cpu")
                seconds = row.deadline_at - time.time() if row else 0.0
                if test(seconds):
                    return seconds
                watch.wait(1)
        finally:
            watch.close()
        raise AssertionError(f"{seconds} s of silence are allowed")

    return allowed


def test_the_first_step_has_the_time_of_a_load_and_later_ones_that_of_a_step(
    report: Reporter, silence: Callable[[Callable[[float], bool]], float]
) -> None:
    report.enter(Stage.DENOISE)
    report.step(0, 3)
    assert silence(lambda seconds: seconds > STEP_S) <= LOAD_S
    report.step(1, 3)
    silence(lambda seconds: 0 < seconds <= STEP_S)


def test_a_job_that_may_wait_for_other_engines_has_the_time_for_it_in_each_step(
    report: Reporter, silence: Callable[[Callable[[float], bool]], float]
) -> None:
    report.allow(3 * STEP_S)
    report.enter(Stage.DENOISE)
    report.step(0, 3)
    report.step(1, 3)
    report.alive()
    silence(lambda seconds: 2 * STEP_S < seconds <= 3 * STEP_S)


def test_work_that_reads_a_whole_model_has_the_time_of_a_load_until_the_next_word(
    report: Reporter, silence: Callable[[Callable[[float], bool]], float]
) -> None:
    report.enter(Stage.ENCODE)
    report.tell("changing LoRAs", slow=True)
    silence(lambda seconds: STEP_S < seconds <= LOAD_S)
    report.tell("")
    silence(lambda seconds: 0 < seconds <= STEP_S)


def test_what_is_left_of_a_check_is_left_of_the_job_and_of_a_download_nobody_knows(bench: Bench) -> None:
    plan = video_plan()
    timings = Timings(bench.store.database)
    for stage, work in stage_work(plan).items():
        timings.record("cpu", plan.model, stage, work, 1.0)
    whole_job_s = sum((timings.expect("cpu", plan) or {}).values())
    job, seen = bench.job(plan), []

    def note(report: Reporter) -> None:
        progress = report._note
        assert progress is not None
        seen.append((progress.stage, progress.eta_s))

    with Reporter(job, bench.store, bench.settings) as report:
        report.enter(Stage.DOWNLOAD)
        note(report)
        report.enter(Stage.CHECK)
        note(report)
        report.tell("checking", left_s=70.0)
        note(report)
        report.enter(Stage.LOAD)
        note(report)
    assert seen == [
        (Stage.DOWNLOAD, None),
        (Stage.CHECK, None),
        (Stage.CHECK, 70.0 + whole_job_s),
        (Stage.LOAD, whole_job_s),
    ]


def test_a_sign_of_life_within_a_step_is_passed_on(bench: Bench) -> None:
    settings = bench.settings.model_copy(update={"step_deadline_s": 1.0, "load_deadline_s": 0.1})
    rows = WorkerRegistry(bench.store.database)
    rows.register("cpu", 0.0)
    with Reporter(bench.job(video_plan()), bench.store, settings) as report:
        report.enter(Stage.DENOISE)
        report.step(0, 3)
        watch, seen = bench.store.database.watch(), set[float]()
        end = time.monotonic() + PATIENCE_S
        while len(seen) < 3 and time.monotonic() < end:  # the time that is passed on moves while the step goes on
            report.alive()
            row = rows.get("cpu")
            seen.add(row.deadline_at if row else 0.0)
            watch.wait(0.1)
        watch.close()
    assert len(seen) >= 3
