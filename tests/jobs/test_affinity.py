"""Jobs go to the engine on which they end first, nobody is passed by for long, and clients keep their order."""

import errno
import itertools
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.engine.worker.claims import Claims
from wan_mcp.jobs.affinity import PASSES_ALLOWED, EngineInView, Timetable, choose, schedule
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.processes import Processes, Started
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.turns import Asker
from wan_mcp.jobs.waiting import Waiting
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

LOAD_S, RUN_S = 60.0, 10.0
BOTH = frozenset({"cuda:0", "cuda:1"})
TABLE = Timetable(lambda device, plan, loaded: RUN_S if loaded else LOAD_S + RUN_S, "auto")
IDS = itertools.count()


def plan_of(model: str) -> Plan:
    return video_plan().model_copy(update={"model": model})


def waiting(model: str, client: str = "", *, devices: frozenset[str] = BOTH, passed: int = 0) -> Waiting:
    job = Job(
        id=f"{model}-{next(IDS)}",
        request_id=None,
        state=JobState.QUEUED,
        plan=plan_of(model),
        created_at=0.0,
        client=client,
    )
    return Waiting(job, devices, passed)


def engine(device: str, model: str | None = None, free_in_s: float | None = 0.0, *, late: bool = False) -> EngineInView:
    return EngineInView(device, free_in_s, LoadedModels(generator=(model, "auto") if model else None), late)


def taken(me: EngineInView, others: list[EngineInView], line: list[Waiting], held_s: float = 0.0) -> Waiting | None:
    return choose(me, others, line, TABLE, lambda each: held_s).taken


def test_an_engine_that_holds_the_model_takes_the_job() -> None:
    line = [waiting("a"), waiting("a")]
    assert taken(engine("cuda:0", "a"), [engine("cuda:1", "a")], line) is line[0]


@pytest.mark.parametrize(("free_in_s", "left"), [(0.0, True), (LOAD_S - 1, True), (LOAD_S + 1, False), (None, False)])
def test_a_job_waits_for_the_engine_that_holds_its_model_only_where_it_ends_sooner(
    free_in_s: float | None, left: bool
) -> None:
    line = [waiting("a")]
    chosen = taken(engine("cuda:0"), [engine("cuda:1", "a", free_in_s)], line)
    assert (chosen is None) is left


def test_a_job_does_not_wait_for_an_engine_that_may_not_take_it_or_is_late() -> None:
    for_one, line = [waiting("a", devices=frozenset({"cuda:0"}))], [waiting("a")]
    assert taken(engine("cuda:0"), [engine("cuda:1", "a", 1.0)], for_one) is for_one[0]
    assert taken(engine("cuda:0"), [engine("cuda:1", "a", 0.0, late=True)], line) is line[0]


def test_an_engine_takes_no_job_that_is_for_others_and_leaves_none_whose_model_it_holds() -> None:
    line = [waiting("a", devices=frozenset({"cuda:1"})), waiting("a")]

    def seconds(device: str, plan: Plan, loaded: bool) -> float:
        return (RUN_S if loaded else LOAD_S + RUN_S) / (10 if device == "cuda:1" else 1)

    choice = choose(engine("cuda:0", "a"), [engine("cuda:1", "a")], line, Timetable(seconds, "auto"))
    assert (choice.taken, choice.left) == (line[1], ())


def test_where_nothing_is_measured_jobs_are_taken_in_their_order() -> None:
    line = [waiting("a"), waiting("b")]
    unknown = Timetable(lambda device, plan, loaded: None, "auto")
    assert choose(engine("cuda:0", "b"), [engine("cuda:1", "a")], line, unknown).taken is line[0]


def test_an_engine_takes_the_next_clients_job_instead_of_one_that_ends_sooner_elsewhere() -> None:
    line = [waiting("a", "Claude"), waiting("b", "Cursor")]
    choice = choose(engine("cuda:0", "b"), [engine("cuda:1", "a", 5.0)], line, TABLE)
    assert (choice.taken, choice.left) == (line[1], (line[0],))


def test_a_later_job_of_a_client_does_not_overtake_one_that_would_end_after_it() -> None:
    line = [waiting("a", "Claude"), waiting("b", "Claude")]
    other = engine("cuda:1", "a", 30.0)
    assert taken(engine("cuda:0", "b"), [other], line) is None, "b would end at 10, and a at 40"
    line = [waiting("a", "Claude") for _ in range(9)]
    assert taken(engine("cuda:0"), [other], line) is line[3], "at 70; the three before it end at 40, 50 and 60"


def test_a_job_that_was_passed_by_often_enough_is_taken_whatever_is_loaded() -> None:
    line = [waiting("a", "Claude", passed=PASSES_ALLOWED), waiting("b", "Cursor")]
    assert taken(engine("cuda:0", "b"), [engine("cuda:1", "a", 5.0)], line) is line[0]


def test_a_job_is_held_back_no_longer_than_its_model_takes_to_load() -> None:
    line = [waiting("a")]
    other = engine("cuda:1", "a", 5.0)
    assert taken(engine("cuda:0"), [other], line, held_s=LOAD_S - 1) is None
    assert taken(engine("cuda:0"), [other], line, held_s=LOAD_S) is line[0]


def test_of_four_busy_engines_the_first_that_is_free_begins_the_job() -> None:
    devices = frozenset(f"cuda:{number}" for number in range(4))
    engines = [engine(device, "a", seconds) for device, seconds in zip(sorted(devices), (90, 20, 50, 70), strict=True)]
    [served] = schedule(engines, [waiting("a", devices=devices)], TABLE)
    assert (served.begins_in_s, served.ends_in_s) == (20, 30)


def test_a_schedule_goes_on_with_the_engines_whose_time_is_known() -> None:
    line = [waiting("a"), waiting("a")]
    served = [*schedule([engine("cuda:0", "a", None), engine("cuda:1", "a", 5.0)], line, TABLE)]
    assert [each.ends_in_s for each in served] == [15.0, 25.0]
    assert [*schedule([engine("cuda:0", "a", None)], line, TABLE)] == []


MODELS, CLIENTS = st.sampled_from("abc"), st.sampled_from(["Claude", "Cursor", "page"])
LINES = st.lists(st.tuples(MODELS, CLIENTS), max_size=14)
ENGINES = st.lists(st.tuples(st.sampled_from([None, *"abc"]), st.floats(0, 200)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=150)
@given(engines=ENGINES, line=LINES)
def test_every_job_is_served_and_passed_by_a_few_times_at_most(
    engines: list[tuple[str | None, float]], line: list[tuple[str, str]]
) -> None:
    devices = frozenset(f"cuda:{number}" for number in range(len(engines)))
    there = [engine(device, *each) for device, each in zip(sorted(devices), engines, strict=True)]
    jobs = [waiting(model, client, devices=devices) for model, client in line]
    served = [*schedule(there, jobs, TABLE)]
    assert sorted(each.waiting.job.id for each in served) == sorted(each.job.id for each in jobs)
    place = {each.job.id: number for number, each in enumerate(jobs)}
    overtaken = Counter[str]()
    for before, after in itertools.combinations(served, 2):
        overtaken[after.waiting.job.id] += place[before.waiting.job.id] > place[after.waiting.job.id]
    assert all(count <= PASSES_ALLOWED for count in overtaken.values())


@settings(deadline=None, max_examples=150)
@given(engines=ENGINES, models=st.lists(MODELS, max_size=10))
def test_a_clients_job_goes_before_an_earlier_one_of_theirs_only_if_that_is_to_end_first(
    engines: list[tuple[str | None, float]], models: list[str]
) -> None:
    devices = frozenset(f"cuda:{number}" for number in range(len(engines)))
    me, *others = [engine(device, *each) for device, each in zip(sorted(devices), engines, strict=True)]
    choice = choose(me, others, [waiting(model, "Claude", devices=devices) for model in models], TABLE)
    assert choice.taken is not None or len(choice.left) == len(models)
    for left in choice.left if choice.taken is not None else ():
        there = [each for each in others if each.loaded.has(left.job.plan, "auto")]
        assert min(each.free_in_s or 0.0 for each in there) + RUN_S <= (choice.ends_in_s or 0.0)


# On the real table.


@dataclass
class Engines:
    """Engines that claim from a real table; all of them are this process."""

    settings: Settings
    database: Database
    claims: dict[str, Claims] = field(default_factory=dict)
    loaded: dict[str, LoadedModels] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store, self.rows = JobStore(self.database), WorkerRegistry(self.database)
        timings = Timings(self.database)
        for model, (stage, work) in itertools.product("abc", stage_work(video_plan()).items()):
            seconds = LOAD_S if stage is Stage.LOAD else 2 * RUN_S / work.pieces if stage is Stage.DENOISE else 0.0
            timings.record("cuda:0", model, stage, work, seconds)

    def start(self, device: str, model: str | None = None) -> None:
        """An engine starts; its hardware is that of the others."""
        own = self.settings.model_copy(update={"device": device})
        self.rows.register(device, time.monotonic() + 1000)
        self.claims[device] = Claims(own, self.store, self.rows)
        self._tell(device, LoadedModels(generator=(model, "auto") if model else None))
        self.record_hardware(device)

    def record_hardware(self, device: str) -> None:
        with self.database.write() as connection:
            connection.execute("INSERT INTO device_models VALUES (?, 'H100')", (device,))

    def _tell(self, device: str, loaded: LoadedModels) -> None:
        self.loaded[device] = loaded
        self.rows.heartbeat(device, time.monotonic() + 1000, loaded)

    def submit(self, model: str, client: str) -> str:
        return self.store.submit(video_request(), plan_of(model), None, 10_000, asker=Asker(client)).id

    def claim(self, device: str, eta_s: float = RUN_S) -> str | None:
        """An engine that is free claims a job, and says how long it will take."""
        job = self.claims[device].next(self.loaded[device], ())
        if job is None:
            return None
        self.jobs[device] = job
        self.store.report(job, Progress(stage=Stage.DENOISE, fraction=0.0, eta_s=eta_s))
        return job.id

    def finish(self, device: str) -> None:
        job = self.jobs.pop(device)
        self.store.finish(job, JobState.SUCCEEDED)
        self._tell(device, self.loaded[device].after(job.plan, "auto"))


@pytest.fixture
def engines(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    yield Engines(Settings(home=tmp_path_factory.mktemp("home")), database)


def test_a_job_waits_for_a_busy_engine_that_holds_its_model_and_another_takes_the_next(engines: Engines) -> None:
    engines.start("cuda:0", "a")
    engines.start("cuda:1", "b")
    engines.submit("a", "Claude")
    assert engines.claim("cuda:1") is None, "the idle one holds the model"
    assert engines.claim("cuda:0") is not None
    again, other = engines.submit("a", "Claude"), engines.submit("b", "Cursor")
    assert engines.claim("cuda:1") == other
    engines.finish("cuda:0")
    assert engines.claim("cuda:0") == again


def test_an_engine_alone_takes_the_jobs_in_their_order(engines: Engines) -> None:
    engines.start("cuda:0", "b")
    jobs = [engines.submit(model, "Claude") for model in "abab"]
    for job in jobs:
        assert engines.claim("cuda:0") == job
        engines.finish("cuda:0")


class Machine(Processes):
    """A machine that is too short of memory to start an engine, and notes which it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, output: Path) -> Started:
        self.asked.append(environment["WAN_MCP_DEVICE"])
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def test_no_engine_is_started_for_jobs_that_end_sooner_on_a_busy_one(engines: Engines) -> None:
    engines.start("cuda:0", "a")
    engines.record_hardware("cuda:1")  # by an engine that has left
    machine, own = Machine(), engines.settings.model_copy(update={"device": "cuda:0,1"})
    front = Supervisor(own, engines.store, machine)
    with engine_lock(own.home, "cuda:0"):
        for _ in range(2):
            engines.submit("a", "Claude")
        assert engines.claim("cuda:0") is not None
        front.supervise()
        assert machine.asked == []
        for _ in range(int(LOAD_S / RUN_S)):
            engines.submit("a", "Claude")
        front.supervise()
        assert machine.asked == ["cuda:1"], "the last would wait for longer than a model takes to load"
    front.leave()


@settings(deadline=None, max_examples=25)
@given(steps=st.lists(st.one_of(st.tuples(MODELS, CLIENTS), st.integers(0, 2)), max_size=40))
def test_engines_pass_no_job_by_more_often_than_is_allowed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str] | int]
) -> None:
    home = tmp_path_factory.mktemp("affinity")
    database = Database(home / "jobs.db")
    engines = Engines(Settings(home=home), database)
    for number in range(3):
        engines.start(f"cuda:{number}")
    passed = Counter[str]()
    queued = 0
    for step in [*steps, *itertools.chain.from_iterable([[0, 1, 2]] * (len(steps) + 1))]:
        if isinstance(step, tuple):
            engines.submit(*step)
            queued += 1
            continue
        device = f"cuda:{step}"
        if device in engines.jobs:
            engines.finish(device)
        line = [job.id for job in engines.store.unfinished() if job.state is JobState.QUEUED]
        if (claimed := engines.claim(device)) is not None:
            passed.update(line[: line.index(claimed)])
        assert all(count <= PASSES_ALLOWED for count in passed.values())
    assert len(engines.store.newest(JobState.SUCCEEDED, 1000)) + len(engines.jobs) == queued
    database.close()
