"""One engine for each device, whatever the fronts call it: auto and what that stands for are the same."""

import os
import time
from collections.abc import Callable, Iterator

import psutil
import pytest

from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.device.device import device_name
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.devices import DeviceNames, named
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import EngineSettings
from wan_mcp.settings import Settings


class Home:
    """A home whose engines stop at the first step, and fronts with different settings."""

    def __init__(self, engine: Callable[..., Settings], *devices: str) -> None:
        changed = [engine("works", device=device) for device in devices]
        self.database = Database(changed[0].database)
        self.store = JobStore(self.database)
        self.fronts = [Supervisor(settings, JobStore(self.database)) for settings in changed]
        self._before = set(psutil.Process().children())
        (changed[0].home / "pace").write_text("0")
        self.pace = changed[0].home / "pace"

    def submit(self, asked: str | None = None) -> Job:
        """Queue a job whose caller asked for a device, or for none."""
        plan = video_plan()
        if asked is not None:
            plan = plan.model_copy(update={"engine": EngineSettings(device=asked)})
        return self.store.submit(video_request(), plan, None, 99)

    @property
    def engines(self) -> list[psutil.Process]:
        """Those that run, or begin to."""
        children = set(psutil.Process().children()) - self._before
        return [child for child in children if child.status() != psutil.STATUS_ZOMBIE]

    def tend_until(self, holds: Callable[[], bool]) -> None:
        """Every front does its duty again and again until something holds."""
        watch, end = self.database.watch(), time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, [self.store.newest(), self.engines]
            for front in self.fronts:
                front.supervise()
            watch.wait(0.2)
        watch.close()

    def runs(self, job: Job) -> bool:
        now = self.store.get(job.id)
        return now.state is JobState.RUNNING and now.progress is not None and now.progress.step == 0


@pytest.fixture
def home_of(engine: Callable[..., Settings]) -> Iterator[Callable[..., Home]]:
    homes: list[Home] = []

    def make(*devices: str) -> Home:
        homes.append(Home(engine, *devices))
        return homes[-1]

    yield make
    for home in homes:
        home.database.close()


@pytest.fixture
def auto_is(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda device: monkeypatch.setenv("AUTO_DEVICE", device)


@pytest.mark.parametrize("first", ["auto", "cuda:0"])
def test_a_front_that_names_the_device_differently_uses_the_engine_that_is_there(
    first: str, home_of: Callable[..., Home], auto_is: Callable[[str], None]
) -> None:
    auto_is("cuda:0")
    home = home_of(first, "cuda" if first == "auto" else "auto")
    one, fronts = home.submit(), home.fronts
    home.fronts = fronts[:1]
    home.tend_until(lambda: home.runs(one))
    home.fronts, two = fronts, home.submit()
    home.tend_until(lambda: all(front.devices == ("cuda:0",) for front in fronts) and len(home.engines) == 1)
    for front in fronts:
        front.supervise()
    assert len(home.engines) == 1
    assert all(len(front.engines()) == 1 for front in fronts)
    home.pace.unlink()
    home.tend_until(lambda: home.store.get(two.id).state is JobState.SUCCEEDED)
    assert {home.store.get(job.id).device for job in (one, two)} == {"cuda:0"}


def test_of_engines_that_start_at_once_under_two_names_one_stays_and_its_death_is_seen_by_all(
    home_of: Callable[..., Home], auto_is: Callable[[str], None]
) -> None:
    auto_is("cuda:0")
    home = home_of("auto", "cuda:0", "auto")
    job = home.submit()
    for front in home.fronts:
        front.supervise()
    assert len(home.engines) == 3
    home.tend_until(lambda: home.runs(job) and len(home.engines) == 1)
    home.engines[0].kill()
    home.tend_until(lambda: home.store.get(job.id).crashes == 1)
    home.tend_until(lambda: home.runs(job) and len(home.engines) == 1)
    assert (home.store.get(job.id).device, home.store.get(job.id).attempt) == ("cuda:0", 2)


def test_an_engine_finds_out_anew_what_auto_stands_for(
    home_of: Callable[..., Home], auto_is: Callable[[str], None]
) -> None:
    auto_is("cpu")
    home = home_of("auto", "cpu")
    DeviceNames(home.database).record_auto("cuda:0")  # of a GPU that is not there any more
    fronts, home.fronts = home.fronts, home.fronts[:1]
    job = home.submit()
    home.tend_until(lambda: home.runs(job))
    assert home.store.get(job.id).device == "cpu"
    assert [front.devices for front in fronts] == [("cpu",), ("cpu",)]
    home.submit()
    fronts[1].supervise()
    assert len(home.engines) == 1
    row = WorkerRegistry(home.database).get("cuda:0")
    assert row is None, "the old name was let go"


@pytest.mark.parametrize("asked", ["cuda:1", "cuda:01"])
def test_a_job_runs_on_the_device_that_was_asked_for_also_while_an_engine_of_another_is_free(
    home_of: Callable[..., Home], asked: str
) -> None:
    home = home_of("cpu", "cuda:1")
    usual = home.submit()
    fronts, home.fronts = home.fronts, home.fronts[:1]
    home.tend_until(lambda: home.runs(usual))
    fronts[1].join()
    job = home.submit(asked)
    home.pace.unlink()
    home.tend_until(lambda: home.store.get(usual.id).state is JobState.SUCCEEDED)
    fronts[0].supervise()  # its engine is idle, and this job is not for it
    assert home.store.get(job.id).state is JobState.QUEUED
    home.fronts = fronts
    home.tend_until(lambda: home.store.get(job.id).state is JobState.SUCCEEDED)
    assert home.store.get(job.id).device == "cuda:1"


def test_a_job_whose_device_nobody_serves_any_more_runs_on_another(home_of: Callable[..., Home]) -> None:
    home = home_of("cpu", "cuda:1")
    home.pace.unlink()
    job = home.submit("cuda:1")
    home.fronts[1].join()
    home.fronts[1].leave()
    home.fronts = home.fronts[:1]
    home.tend_until(lambda: home.store.get(job.id).state is JobState.SUCCEEDED)
    assert home.store.get(job.id).device == "cpu"


def test_a_device_that_was_asked_for_and_cannot_be_used_fails_the_job_with_the_reason(
    engine: Callable[..., Settings], home_of: Callable[..., Home]
) -> None:
    home = home_of("cpu")
    usual = home.submit()
    home.tend_until(lambda: home.runs(usual))
    broken = engine("dies_at_start", device="cuda:1")
    asking = Supervisor(broken, JobStore(home.database))
    home.fronts.append(asking)
    plan = video_plan().model_copy(update={"engine": EngineSettings(device="cuda:1")})
    job = home.store.submit(video_request(), plan, None, 99, asking.settings_key)
    home.tend_until(lambda: home.store.get(job.id).state.final)
    failed = home.store.get(job.id)
    assert failed.error is not None
    assert (failed.error.code, failed.device) == ("engine_failed", None)
    assert "torch" in failed.error.message
    assert "Device cuda:1 was asked for; omit it to use the one that is there" in failed.error.message
    assert home.runs(usual)


@pytest.mark.parametrize(("setting", "name"), [("cuda", "cuda:0"), ("cuda:01", "cuda:1"), ("cpu", "cpu")])
def test_a_device_has_one_name(database: Database, setting: str, name: str) -> None:
    assert DeviceNames(database).of(setting) == (name,)


@pytest.mark.parametrize("text", ["cuda:x", "tpu", "", "cuda:0,,1", "auto"])
def test_a_text_that_names_no_device_names_none(text: str) -> None:
    assert named(text) == ()


def test_what_an_older_version_records_of_auto_counts(database: Database) -> None:
    names = DeviceNames(database)
    names.record_auto("cuda:0", "cuda:1")
    assert names.of("auto") == ("cuda:0", "cuda:1")
    with database.write() as connection:
        connection.execute("INSERT OR REPLACE INTO auto_device VALUES (1, 'cpu')")
    assert names.of("auto") == ("cpu",)


def test_all_gpus_serve_one_queue_and_a_kill_costs_one_job_an_attempt(
    home_of: Callable[..., Home], auto_is: Callable[[str], None]
) -> None:
    auto_is("cuda:0,cuda:1")
    home = home_of("auto")
    jobs = [home.submit() for _ in range(3)]
    home.tend_until(lambda: all(home.runs(job) for job in jobs[:2]))
    assert [home.store.get(job.id).device for job in jobs] == ["cuda:0", "cuda:1", None]
    assert [row.device for row in home.fronts[0].engines()] == ["cuda:0", "cuda:1"]
    victim = home.fronts[0].engines()[1]
    psutil.Process(victim.pid).kill()
    home.tend_until(lambda: home.runs(jobs[1]) and home.store.get(jobs[1].id).crashes == 1)
    assert [home.store.get(job.id).attempt for job in jobs] == [1, 2, 0]
    home.pace.unlink()
    home.tend_until(lambda: not home.store.unfinished())
    assert {home.store.get(job.id).state for job in jobs} == {JobState.SUCCEEDED}
    home.tend_until(lambda: home.fronts[0].states() == {"cuda:0": "idle", "cuda:1": "idle"})
    assert home.fronts[0].free()
    home.tend_until(lambda: home.fronts[0].states() == {"cuda:0": "off", "cuda:1": "off"})


@pytest.mark.parametrize(("devices", "state"), [("cuda:0,1", JobState.SUCCEEDED), ("cuda:0", JobState.FAILED)])
def test_a_job_that_is_too_large_for_one_gpu_runs_on_another_if_there_is_one(
    engine: Callable[..., Settings], devices: str, state: JobState
) -> None:
    settings = engine("lacks_memory_on_the_first", device=devices)
    database = Database(settings.database)
    store = JobStore(database)
    front, watch = Supervisor(settings, store), database.watch()
    job = store.submit(video_request(), video_plan(), None, 99)
    end = time.monotonic() + PATIENCE_S
    while not (now := store.get(job.id)).state.final:
        assert time.monotonic() < end
        front.supervise()
        watch.wait(0.2)
    assert (now.state, now.crashes) == (state, 0)
    assert now.device == ("cuda:1" if state is JobState.SUCCEEDED else "cuda:0")
    assert state is JobState.SUCCEEDED or (now.error is not None and now.error.code == "too_large_for_device")
    watch.close()
    database.close()


def test_auto_is_a_device_that_is_there() -> None:
    import torch

    there = "cuda:0" if torch.cuda.is_available() else "cpu"
    assert device_name("auto") == there
    assert os.environ.get("AUTO_DEVICE") is None
