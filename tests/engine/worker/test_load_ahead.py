"""What an idle engine loads while others run jobs: this process holds the locks of all engines of its home."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.engine.worker.load_ahead import LoadAhead
from wan_mcp.errors import JobFailed
from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import EngineSettings
from wan_mcp.settings import Settings

DEVICES = ("cuda:0", "cuda:1", "cuda:2")
OTHER = "t2v-a14b"


class Engine:
    """One engine that is idle, with a runner that loads what it is asked to."""

    def __init__(self, home: "Home", device: str, gpus: str = "all") -> None:
        self.home, self.device = home, device
        self.model: str | None = None
        self.tried: list[str] = []
        self.fails = self.leaving = False
        self.meanwhile: Callable[[], object] = lambda: None
        settings = Settings(home=home.folder, device=device, gpus_per_job=gpus)
        store = JobStore(home.database)
        self.ahead = LoadAhead(settings, store, home.rows, lambda: self.leaving, lambda: store.has_queued(self.device))

    def look(self) -> bool:
        """Look for something to load."""
        return self.ahead.look(self)

    # What `LoadAhead` asks of a runner.

    def loaded(self) -> LoadedModels:
        return LoadedModels(generator=(self.model, "auto") if self.model is not None else None)

    def device_lost(self) -> bool:
        return False

    def load_ahead(self, job: Job, check: Callable[[], None]) -> None:
        self.tried.append(job.plan.model)
        self.meanwhile()
        check()
        if self.fails:
            raise JobFailed("no_room", "there is no room")
        self.model = job.plan.model


class Home:
    """A home with three engines."""

    def __init__(self, folder: Path, locks: ExitStack) -> None:
        self.folder, self.database = folder, Database(folder / "jobs.db")
        self.store, self.rows = JobStore(self.database), WorkerRegistry(self.database)
        for device in DEVICES:
            locks.enter_context(engine_lock(folder, device))
            self.rows.register(device, time.monotonic() + 99)
            self.rows.heartbeat(device, time.monotonic() + 99)

    def run(self, model: str = "wan-mini", stage: Stage = Stage.DENOISE, asked: str | None = None) -> Job:
        """Let the first engine run a job."""
        engine = EngineSettings(device=asked) if asked is not None else None
        self.submit(model, engine)
        job = self.store.claim("cuda:0")
        assert job is not None
        self.store.report(job, Progress(stage=stage, fraction=0.5))
        return job

    def submit(self, model: str = "wan-mini", engine: EngineSettings | None = None) -> None:
        plan = video_plan().model_copy(update={"model": model, "engine": engine})
        self.store.submit(video_request(), plan, None, 99)

    def end(self, job: Job) -> None:
        self.store.finish(job, JobState.SUCCEEDED)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with ExitStack() as locks:
        home = Home(tmp_path, locks)
        yield home
        home.database.close()


def test_the_model_of_a_running_job_is_loaded_once_and_says_so_to_others(home: Home) -> None:
    engine, job = Engine(home, "cuda:1"), home.run()
    assert [engine.look() for _ in range(3)] == [True] * 3
    assert engine.tried == ["wan-mini"]
    row = home.rows.get("cuda:1")
    assert row is not None and row.loaded.generator == ("wan-mini", "auto")
    home.end(job)
    assert not engine.look(), "its idle time counts from now on"


@pytest.mark.parametrize(("gpus", "load"), [("1", []), ("2", ["cuda:1"]), ("all", ["cuda:1", "cuda:2"])])
def test_as_many_engines_load_as_may_share_a_job(home: Home, gpus: str, load: list[str]) -> None:
    home.run()
    assert [device for device in DEVICES[1:] if Engine(home, device, gpus).look()] == load


@pytest.mark.parametrize("stage", [Stage.DOWNLOAD, Stage.CHECK, Stage.LOAD])
def test_nothing_is_loaded_before_the_job_itself_has_its_model(home: Home, stage: Stage) -> None:
    home.run(stage=stage)
    assert not Engine(home, "cuda:1").look()


def test_nothing_is_loaded_for_jobs_of_other_machines_or_while_jobs_wait_or_for_another_device(home: Home) -> None:
    job = home.run(asked="cuda:0")
    assert not Engine(home, "cuda:1").look()
    home.end(job)
    home.run()
    home.rows.record_machine("cuda:0", Machine("GPU", "bf16", 80_000_000_000))
    home.rows.record_machine("cuda:1", Machine("GPU", "bf16", 24_000_000_000))
    assert not Engine(home, "cuda:1").look()
    assert Engine(home, "cuda:2").look()
    home.submit()
    assert not Engine(home, "cuda:2").look()


def test_a_load_that_fails_is_logged_once_and_not_repeated(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(home, "cuda:1")
    engine.fails = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            job = home.run()
            assert [engine.look() for _ in range(3)] == [False] * 3
            home.end(job)
            engine.ahead.forget_others()
    assert engine.tried == ["wan-mini"]
    assert [record.getMessage() for record in caplog.records] == [
        "wan-mini is not loaded ahead: JobFailed: there is no room"
    ]


def test_a_load_stops_for_a_job_that_comes_and_is_done_the_next_time(home: Home) -> None:
    engine, job = Engine(home, "cuda:1"), home.run()
    engine.meanwhile = home.submit
    assert not engine.look()
    assert engine.model is None
    came = home.store.claim("cuda:1")
    assert came is not None
    for each in (came, job):
        home.end(each)
    engine.meanwhile = lambda: None
    home.run()
    assert engine.look()
    assert engine.model == "wan-mini"


def test_a_load_stops_when_the_engine_shuts_down(home: Home) -> None:
    engine = Engine(home, "cuda:1")
    home.run()
    engine.leaving = True
    assert not engine.look()
    assert engine.tried == []


def test_another_model_in_memory_is_replaced_only_after_two_jobs_in_a_row(home: Home) -> None:
    engine = Engine(home, "cuda:1")
    engine.model = OTHER
    for model in ("wan-mini", OTHER, "wan-mini"):  # two clients that alternate
        job = home.run(model)
        assert not engine.look()
        home.end(job)
    home.run("wan-mini")
    assert engine.look()
    assert engine.tried == ["wan-mini"]
