"""Fronts, engines, kills, stops, clocks and sleeps in any order: every job ends as a model says.

The job table, the locks and the supervisors are real; processes and time are a model (tests/support/model_machine.py).
`SUPERVISION_EXAMPLES=2000` makes it longer.
"""

import os
import tempfile
from collections.abc import Iterator, Set
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.support.model_machine import BROKEN, DEADLINE_S, STEP_S, Machine, ModelEngine
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

USUAL = 12
EXAMPLES = int(os.environ.get("SUPERVISION_EXAMPLES", USUAL))
FAST = Path("/dev/shm")  # where there is one: a power cut is not among the faults
PICK = st.integers(min_value=0, max_value=1000)
DEVICES = ("cpu", "cuda:0", "cuda:1")
FRONTS = st.tuples(
    st.sampled_from([*DEVICES, "cuda:0,1", "auto"]), st.one_of(st.just(()), st.sets(st.sampled_from(DEVICES)))
)
PHASES = st.sampled_from(["starting", "running", "any"])


class Supervision(RuleBasedStateMachine):
    """What may happen to a machine, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(dir=FAST if FAST.is_dir() else None)
        self.machine = Machine(Path(self._folder.name) / "home")

    @initialize(fronts=st.lists(FRONTS, min_size=1, max_size=3), jobs=st.integers(1, 4), rounds=st.integers(0, 4))
    def some_fronts_and_jobs(self, fronts: list[tuple[str, Set[str]]], jobs: int, rounds: int) -> None:
        for device, broken in [("cpu", set[str]()), *fronts]:
            front = self.machine.add_front(device, broken=sorted(broken), gpus_per_job="all")
            for _ in range(jobs):
                self.machine.submit(front)
        self.machine.work(rounds)

    @precondition(lambda self: len(self.machine.fronts) < 5)
    @rule(front=FRONTS)
    def a_front_starts(self, front: tuple[str, Set[str]]) -> None:
        self.machine.add_front(front[0], broken=sorted(front[1]), gpus_per_job="all")

    @precondition(lambda self: self.machine.fronts)
    @rule(pick=PICK, poison=st.sampled_from([(), (), ("cpu",), ("cuda:0", "cpu", "cuda:1")]))
    def a_job_is_submitted(self, pick: int, poison: tuple[str, ...]) -> None:
        self.machine.submit(self.machine.fronts[pick % len(self.machine.fronts)], poison)

    @rule(rounds=st.integers(1, 12))
    def work_goes_on(self, rounds: int) -> None:
        self.machine.work(rounds)

    @rule(phase=PHASES, rounds=st.integers(1, 5), times=st.integers(1, 3))
    def engines_are_killed(self, phase: str, rounds: int, times: int) -> None:
        for _ in range(times):
            for engine in self._engines(phase)[:2]:
                self.machine.kill_engine(engine)
            self.machine.work(rounds)

    @rule()
    def idle_engines_leave(self) -> None:
        for engine in self._engines("ready"):
            engine.leave()

    @rule(pick=PICK, wait=st.sampled_from([1.0, 20.0]))
    def an_engine_hangs(self, pick: int, wait: float) -> None:
        for engine in self._engines("running")[: 1 + pick % 2]:
            engine.hung = True
        self.machine.let_pass(wait)

    @rule(phase=PHASES, seconds=st.sampled_from([1.0, 40.0]))
    def engines_are_stopped_and_go_on(self, phase: str, seconds: float) -> None:
        engines = self._engines(phase)
        for engine in engines:
            engine.stopped = True
        self.machine.let_pass(seconds)
        for engine in engines:
            engine.stopped = False

    @precondition(lambda self: self.machine.fronts)
    @rule(pick=PICK)
    def a_front_is_killed(self, pick: int) -> None:
        self.machine.kill_front(self.machine.fronts[pick % len(self.machine.fronts)])

    @precondition(lambda self: self.machine.fronts)
    @rule(pick=PICK)
    def a_front_is_stopped_or_goes_on(self, pick: int) -> None:
        front = self.machine.fronts[pick % len(self.machine.fronts)]
        front.stopped = not front.stopped

    @rule(seconds=st.sampled_from([-1e6, 1e6, 30_000.0]))
    def the_clock_is_set_or_the_machine_sleeps(self, seconds: float) -> None:
        self.machine.wall_at += seconds

    @rule(seconds=st.sampled_from([2.0, 25.0]))
    def every_process_stands_still(self, seconds: float) -> None:
        self.machine.stand_still(seconds)
        self.machine.work()

    @invariant()
    def nothing_was_done_that_must_not_be(self) -> None:
        assert self.machine.faults == []

    def teardown(self) -> None:
        self.machine.settle()
        self.machine.check_ends()
        faults = self.machine.faults
        self.machine.close()
        self._folder.cleanup()
        assert not faults, "\n".join(faults)

    def _engines(self, phase: str) -> list[ModelEngine]:
        return [engine for engine in self.machine.living if phase in ("any", engine.phase)]


@pytest.mark.timeout(0 if EXAMPLES > USUAL else 300)
def test_every_job_ends_as_it_deserves_whatever_happens_in_whatever_order() -> None:
    run_state_machine_as_test(
        Supervision,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=15,
            deadline=None,
            derandomize=EXAMPLES == USUAL,
            database=None,
            phases=[Phase.explicit, Phase.generate] if EXAMPLES == USUAL else list(Phase),
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path / "home")
    yield machine
    machine.close()


def states(machine: Machine, jobs: list[Job]) -> set[JobState]:
    return {machine.store.get(job.id).state for job in jobs}


def run_until(machine: Machine, phase: str, device: str = "cpu") -> ModelEngine:
    """Let the machine work until an engine of a device is in a phase."""
    for _ in range(200):
        for engine in machine.living:
            if (engine.phase, engine.device) == (phase, device):
                return engine
        machine.work()
    raise AssertionError(f"no engine of {device} was ever {phase}")


@pytest.mark.parametrize("device", ["cuda:0", "cpu"])
def test_a_front_whose_engines_cannot_start_costs_no_job_while_another_can_run_it(
    machine: Machine, device: str
) -> None:
    good = machine.add_front("cpu")
    jobs = [machine.submit(good) for _ in range(12)]
    run_until(machine, "running")
    bad = machine.add_front(device, broken=[device])
    jobs += [machine.submit(bad) for _ in range(3)]
    machine.work(8)
    assert JobState.FAILED not in states(machine, jobs)
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}


def test_a_front_alone_that_cannot_start_an_engine_fails_its_own_jobs_only_and_says_why(machine: Machine) -> None:
    good = machine.add_front("cpu")
    left = [machine.submit(good)]
    machine.kill_front(good)
    bad = machine.add_front("cuda:5", broken=["cuda:5"])
    own = [machine.submit(bad) for _ in range(3)]
    machine.work(40)
    assert states(machine, own) == {JobState.FAILED}
    assert all(f"cuda:5: {BROKEN}" in (machine.store.get(job.id).error or left).message for job in own)  # type: ignore[union-attr]
    assert states(machine, left) == {JobState.QUEUED}
    machine.add_front("cpu")
    machine.settle()
    assert states(machine, left) == {JobState.SUCCEEDED}


def start_engines(machine: Machine, count: int) -> list[ModelEngine]:
    """Let the fronts start so many engines, which have not taken a step yet."""
    for _ in range(100):
        if len(starting := [engine for engine in machine.living if engine.phase == "starting"]) >= count:
            return starting
        machine.let_pass(0.5)
    raise AssertionError(f"there were never {count} engines that start")


def test_losers_of_the_start_race_that_are_killed_are_no_evidence(machine: Machine) -> None:
    fronts = [machine.add_front("cpu"), machine.add_front("cpu")]
    jobs = [machine.submit(front) for front in fronts for _ in range(10)]
    for _ in range(4):
        winner, loser = start_engines(machine, 2)
        for _ in range(3):
            winner.step()
        machine.kill_engine(loser)
        machine.work(3)
        assert len(machine.living) == 1
        winner.leave() if winner.phase == "ready" else machine.kill_engine(winner)
    assert JobState.FAILED not in states(machine, jobs)
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}


def test_engines_that_are_killed_while_they_start_are_started_again(machine: Machine) -> None:
    jobs = [machine.submit(machine.add_front("cpu"))]
    for _ in range(8):
        machine.kill_engine(start_engines(machine, 1)[0])
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}


def test_a_job_whose_engines_are_killed_by_others_lets_the_next_go_first_and_succeeds(machine: Machine) -> None:
    front = machine.add_front("cpu")
    jobs = [machine.submit(front) for _ in range(3)]
    for _ in range(3):
        machine.kill_engine(run_until(machine, "running"))
        machine.let_pass(0.5)
    assert [machine.store.get(job.id).crashes for job in jobs] == [2, 1, 0]
    assert [job.id for job in machine.store.unfinished()] == [jobs[1].id, jobs[2].id, jobs[0].id]
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}


def test_a_job_that_crashes_every_engine_fails_wherever_it_ran(machine: Machine) -> None:
    jobs = [machine.submit(machine.add_front(device), ("cpu", "cuda:0")) for device in ("cpu", "cuda:0")]
    machine.settle()
    assert states(machine, jobs) == {JobState.FAILED}
    for job in jobs:
        assert 2 <= len(machine.jobs[job.id].crashes) <= 3, "a second device is tried once"
        error = machine.store.get(job.id).error
        assert error is not None and error.code == "engine_died" and "The engine died" in error.message


def test_a_job_that_crashes_the_engines_of_one_device_runs_on_another(machine: Machine) -> None:
    bad = machine.add_front("cuda:0")
    job = machine.submit(bad, ("cuda:0",))
    run_until(machine, "running", "cuda:0")
    other = machine.add_front("cpu")
    other.stopped = True
    machine.work(30)
    assert machine.store.get(job.id).crashes == 2
    machine.settle()
    assert states(machine, [job]) == {JobState.SUCCEEDED}


@pytest.mark.parametrize("step_s", [-1e6, 0.0, 1e6])
def test_a_hung_engine_is_ended_whatever_the_clock_says_and_its_job_runs_again(machine: Machine, step_s: float) -> None:
    front = machine.add_front("cpu")
    job = machine.submit(front)
    engine = run_until(machine, "running")
    engine.hung = True
    machine.wall_at += step_s
    machine.let_pass(DEADLINE_S + 5)
    assert engine.code == -9
    machine.settle()
    assert machine.store.get(job.id).state is JobState.SUCCEEDED
    assert machine.faults == []


def test_a_job_that_hangs_every_engine_fails_in_the_end(machine: Machine) -> None:
    job = machine.submit(machine.add_front("cpu"))
    while machine.store.get(job.id).state is not JobState.FAILED:
        run_until(machine, "running").hung = True
        machine.let_pass(DEADLINE_S + 5)
    assert "hung 3 times" in (machine.store.get(job.id).error or job).message  # type: ignore[union-attr]
    assert machine.faults == []


def test_an_engine_that_is_stopped_for_long_goes_on_and_has_a_whole_deadline(machine: Machine) -> None:
    front = machine.add_front("cpu")
    job = machine.submit(front)
    engine = run_until(machine, "running")
    for _ in range(2):
        engine.stopped = True
        machine.let_pass(10 * DEADLINE_S)
        engine.stopped = False
        machine.let_pass(STEP_S)
        machine.stand_still(10 * DEADLINE_S)
        machine.let_pass(STEP_S)
    machine.settle()
    assert engine.code is None
    assert (machine.store.get(job.id).state, machine.store.get(job.id).crashes) == (JobState.SUCCEEDED, 0)


def running(machine: Machine) -> set[str]:
    return {engine.device for engine in machine.living if engine.phase == "running"}


@pytest.mark.parametrize("setting", ["auto", "cuda:0,1", "cuda:0,cuda:1"])
def test_a_front_of_several_devices_starts_as_many_engines_as_jobs_wait(machine: Machine, setting: str) -> None:
    front = machine.add_front(setting)
    one = machine.submit(front)
    run_until(machine, "running", "cuda:0")
    machine.let_pass(20)
    assert [engine.device for engine in machine.living] == ["cuda:0"], "a second one would have nothing to do"
    jobs = [one, *(machine.submit(front) for _ in range(3))]
    run_until(machine, "running", "cuda:1")
    assert running(machine) == {"cuda:0", "cuda:1"}
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}
    assert len(machine.engines) == 2


def test_an_idle_engine_takes_the_next_job_and_no_other_is_started_for_it(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1")
    for _ in range(5):
        job = machine.submit(front)
        machine.settle()
        assert states(machine, [job]) == {JobState.SUCCEEDED}
    assert [engine.device for engine in machine.engines] == ["cuda:0"]


@pytest.mark.parametrize("broken", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("setting", ["auto", "cuda:0,1"])
def test_an_engine_that_cannot_start_on_one_device_fails_no_job_that_another_can_run(
    machine: Machine, setting: str, broken: str
) -> None:
    front = machine.add_front(setting, broken=[broken])
    jobs = [machine.submit(front) for _ in range(6)]
    machine.let_pass(60)
    assert JobState.FAILED not in states(machine, jobs)
    assert front.supervisor.hindrance is None
    assert f"{broken}: {BROKEN}" in (front.supervisor.hindrance_of(broken) or "")
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}
    assert {machine.store.get(job.id).device for job in jobs} == {"cuda:0", "cuda:1"} - {broken}


def test_a_front_none_of_whose_devices_can_be_used_fails_its_jobs_and_says_why(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1", broken=["cuda:0", "cuda:1"])
    jobs = [machine.submit(front) for _ in range(3)]
    machine.work(60)
    assert states(machine, jobs) == {JobState.FAILED}
    assert machine.faults == []


def test_a_killed_engine_costs_an_attempt_of_its_job_and_nothing_of_the_other_device(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1")
    jobs = [machine.submit(front) for _ in range(2)]
    run_until(machine, "running", "cuda:1")
    victim = run_until(machine, "running", "cuda:0")
    other = next(engine for engine in machine.living if engine is not victim)
    assert victim.job is not None and other.job is not None
    machine.kill_engine(victim)
    machine.let_pass(1)
    assert machine.store.get(victim.job.id).crashes == 1
    assert (machine.store.get(other.job.id).crashes, other.code) == (0, None)
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}


def test_a_job_that_crashes_engines_of_one_of_a_fronts_devices_runs_on_the_next(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1")
    job = machine.submit(front, ("cuda:0",))
    machine.settle()
    assert states(machine, [job]) == {JobState.SUCCEEDED}
    assert machine.store.get(job.id).device == "cuda:1"
    assert set(machine.jobs[job.id].crashes) == {"cuda:0"}


def test_an_engine_that_hangs_on_one_device_is_ended_and_the_other_goes_on(machine: Machine) -> None:
    front = machine.add_front("cuda:0,1")
    jobs = [machine.submit(front) for _ in range(4)]
    run_until(machine, "running", "cuda:1")
    run_until(machine, "running", "cuda:0").hung = True
    machine.let_pass(DEADLINE_S + 5)
    machine.settle()
    assert states(machine, jobs) == {JobState.SUCCEEDED}
    assert [machine.store.get(job.id).crashes for job in jobs].count(1) == 1
    assert machine.faults == []


@pytest.mark.parametrize("whose", [0, 1])
def test_fronts_that_all_cannot_start_engines_do_not_wait_for_each_other(machine: Machine, whose: int) -> None:
    fronts = [machine.add_front(device, broken=[device]) for device in ("cpu", "cuda:1")]
    job = machine.submit(fronts[whose])
    machine.work(150)
    assert states(machine, [job]) == {JobState.FAILED}
    assert machine.faults == []
