"""Engines that a front starts while a job runs alone, so that the next one of its model can be shared."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan
from tests.support.model_machine import Machine
from wan_mcp.jobs.gpus_per_job import MIN_STEP_S
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import EngineSettings, Plan, ShotPlan, StepCache

LONG_S = 60.0


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home")
    yield machine
    assert machine.faults == []
    machine.close()


def run_long(machine: Machine, gpus: str = "2", plan: Plan | None = None, devices: str = "cuda:0,1") -> Job:
    """Let one job run alone for long; engines send heartbeats, and the fronts look again and again."""
    front = machine.fronts[0] if machine.fronts else machine.add_front(devices, gpus_per_job=gpus)
    job = machine.submit(front, plan=plan)
    while machine.store.get(job.id).progress is None:
        machine.work()
    machine.let_pass(LONG_S)
    assert machine.store.get(job.id).state is JobState.RUNNING
    return job


def started(machine: Machine) -> list[str]:
    """Return the devices of all engines that were ever started, in their order."""
    return [engine.device for engine in machine.engines]


def takes(machine: Machine, seconds: float) -> None:
    """Record how long a step takes on the first device."""
    work = stage_work(video_plan())[Stage.DENOISE]
    Timings(machine.database).record("cuda:0", "wan-mini", Stage.DENOISE, work, seconds)


@pytest.mark.parametrize(("gpus", "engines"), [("1", 1), ("2", 2), ("4", 3), ("all", 3)], ids=lambda value: str(value))
def test_while_a_job_runs_alone_as_many_engines_start_as_may_share_the_next(
    machine: Machine, gpus: str, engines: int
) -> None:
    run_long(machine, gpus, devices="cuda:0,1,2")
    assert started(machine) == ["cuda:0", "cuda:1", "cuda:2"][:engines]


@pytest.mark.parametrize(("step_s", "engines"), [(None, 1), (MIN_STEP_S / 3, 1), (9 * MIN_STEP_S, 2)])
def test_auto_starts_engines_only_for_models_of_long_steps(
    machine: Machine, step_s: float | None, engines: int
) -> None:
    if step_s is not None:
        takes(machine, step_s)
    run_long(machine, "auto")
    assert len(started(machine)) == engines


@pytest.mark.parametrize(
    ("eta_s", "items", "engines"), [(MIN_STEP_S, 1, 1), (40 * MIN_STEP_S, 1, 2), (8 * MIN_STEP_S, 4, 1)]
)
def test_where_nothing_was_measured_yet_auto_judges_by_the_steps_of_the_running_job(
    machine: Machine, eta_s: float, items: int, engines: int
) -> None:
    job = run_long(machine, "auto")
    assert len(started(machine)) == 1
    seen = Progress(stage=Stage.DENOISE, step=1, steps=4, items=items, fraction=0.3, eta_s=eta_s)
    machine.store.report(machine.store.get(job.id), seen)
    machine.let_pass(LONG_S)
    assert len(started(machine)) == engines


@pytest.mark.parametrize(
    "changes",
    [
        {"shots": (ShotPlan(prompt="b", prompt_asked="b", seed=3),)},
        {"step_cache": StepCache(threshold=0.1)},
        {"model": "wan-mini-caption"},
        {"model": "gone"},
    ],
    ids=["shots", "step cache", "another family", "no such model"],
)
def test_no_engine_starts_for_jobs_that_cannot_be_shared(machine: Machine, changes: dict[str, object]) -> None:
    run_long(machine, plan=video_plan().model_copy(update=changes))
    assert started(machine) == ["cuda:0"]


def test_a_front_of_one_device_starts_no_engine_to_share_jobs_of_another_front(machine: Machine) -> None:
    run_long(machine, "all", devices="cuda:0")
    machine.add_front("cuda:1", gpus_per_job="all")
    machine.let_pass(LONG_S)
    assert started(machine) == ["cuda:0"]


def test_an_engine_starts_once_for_a_job_and_again_for_the_next_only_if_it_had_the_model(machine: Machine) -> None:
    jobs = [run_long(machine)]
    machine.engines[1].leave()
    machine.let_pass(LONG_S)
    assert len(started(machine)) == 2, "once for a job"
    machine.settle()
    jobs.append(run_long(machine))
    assert len(started(machine)) == 2, "it had ended without the model"
    machine.settle()
    with machine.database.write() as connection:
        loaded = LoadedModels(generator=("wan-mini", "auto")).model_dump_json()
        connection.execute("UPDATE engines SET loaded = ? WHERE device = 'cuda:1'", (loaded,))
    jobs.append(run_long(machine))
    assert started(machine) == ["cuda:0", "cuda:1", "cuda:1"]
    machine.settle()
    assert {machine.store.get(job.id).state for job in jobs} == {JobState.SUCCEEDED}


def test_an_engine_that_cannot_start_to_share_fails_no_job(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1", gpus_per_job="2", broken=["cuda:1"])
    jobs = [run_long(machine)]
    machine.settle()
    jobs += [machine.submit(front) for _ in range(4)]
    machine.settle()
    assert {machine.store.get(job.id).state for job in jobs} == {JobState.SUCCEEDED}
    assert {machine.store.get(job.id).device for job in jobs} == {"cuda:0"}
    assert "cuda:1" in started(machine)


def test_while_a_job_waits_no_engine_starts_to_share(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1", gpus_per_job="2")
    plan = video_plan().model_copy(update={"engine": EngineSettings(device="cuda:0")})
    jobs = [machine.submit(front, plan=plan) for _ in range(2)]  # of which only one can run
    while machine.store.get(jobs[0].id).progress is None:
        machine.work()
    machine.let_pass(LONG_S)
    assert started(machine) == ["cuda:0"]
    machine.settle()
    assert {machine.store.get(job.id).state for job in jobs} == {JobState.SUCCEEDED}
