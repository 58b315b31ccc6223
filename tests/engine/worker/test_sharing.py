"""Whom an engine asks to share a job, and real engines that share one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.engine.worker.sharing import MIN_STEP_S, Sharing
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.meetings import find_invitation
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import EngineSettings, Plan
from wan_mcp.settings import Settings

ENGINE = [sys.executable, "tests/support/cpu_engine.py"]
MODEL = video_plan().model


class Shares:
    """A runner that can share any job."""

    asked: list[int]

    def __init__(self, most: int = 8) -> None:
        self.most, self.asked = most, []

    def most_ranks(self, job: Job, most: int) -> int:
        self.asked.append(most)
        return min(most, self.most)

    def run_shared(self, job: Job, report: Reporter, folder: Path, ranks: int) -> str | None:
        raise NotImplementedError

    def help(self, job: Job, folder: Path, rank: int, ranks: int, check: Callable[[], None]) -> None:
        raise NotImplementedError


class Engines:
    """The engines of four GPUs in one home, of which this process is all; those of `idle` have the model."""

    def __init__(self, home: Path, locks: ExitStack) -> None:
        self.database = Database(home / "jobs.db")
        self.store, self.home = JobStore(self.database), home
        for device in ("cuda:0", "cuda:1", "cuda:2", "cuda:3"):
            locks.enter_context(engine_lock(home, device))
            rows = WorkerRegistry(self.database)
            rows.register(device, time.monotonic() + 99)
            rows.heartbeat(device, time.monotonic() + 99, LoadedModels(generator=(MODEL, "auto")))

    def submit(self, plan: Plan | None = None) -> None:
        self.store.submit(video_request(), plan or video_plan(), None, 99)

    def claim(self, device: str = "cuda:0") -> Job:
        job = self.store.claim(device)
        assert job is not None
        return job

    def takes(self, seconds: float) -> None:
        """Record how long a step takes."""
        plan = video_plan()
        work = stage_work(plan)[Stage.DENOISE]
        Timings(self.database).record("cuda:0", plan.model, Stage.DENOISE, work, seconds)

    def asked(self, setting: Any, job: Job) -> list[str]:
        """Return which engines are asked to share a job."""
        settings = Settings(home=self.home, device="cuda:0", gpus_per_job=setting)
        sharing = Sharing(settings, self.store, WorkerRegistry(self.database), lambda: False)
        found: list[str] = []
        sharing_invite = "wan_mcp.engine.worker.sharing.invite"
        with pytest.MonkeyPatch.context() as patch:

            def record(home: Path, job: Job, devices: list[str]) -> Any:
                found.extend(devices)
                raise OSError("nobody comes")

            patch.setattr(sharing_invite, record)
            with sharing.meeting(job, Shares()) as meeting:
                assert meeting is None
        return found


@pytest.fixture
def engines(tmp_path: Path) -> Iterator[Engines]:
    with ExitStack() as locks:
        yield Engines(tmp_path, locks)


@pytest.mark.parametrize(
    ("setting", "asked"),
    [("1", []), ("2", ["cuda:1"]), ("4", ["cuda:1", "cuda:2", "cuda:3"]), ("all", ["cuda:1", "cuda:2", "cuda:3"])],
)
def test_the_setting_says_how_many_engines_share_a_job(engines: Engines, setting: str, asked: list[str]) -> None:
    engines.submit()
    assert engines.asked(setting, engines.claim()) == asked


@pytest.mark.parametrize(("waiting", "asked"), [(0, 3), (1, 2), (2, 1), (3, 0), (9, 0)])
def test_auto_leaves_an_engine_to_each_job_that_waits(engines: Engines, waiting: int, asked: int) -> None:
    engines.takes(9 * MIN_STEP_S)
    engines.submit()
    job = engines.claim()
    for _ in range(waiting):
        engines.submit()
    assert len(engines.asked("auto", job)) == asked


@pytest.mark.parametrize("step_s", [None, MIN_STEP_S / 3])
def test_auto_leaves_a_job_of_short_or_unmeasured_steps_to_one_engine(engines: Engines, step_s: float | None) -> None:
    if step_s is not None:
        engines.takes(step_s)
    engines.submit()
    assert engines.asked("auto", engines.claim()) == []


def test_engines_that_run_a_job_or_have_another_model_are_not_asked(engines: Engines) -> None:
    engines.submit()
    engines.submit()
    job = engines.claim()
    engines.claim("cuda:1")
    rows = WorkerRegistry(engines.database)
    rows.heartbeat("cuda:2", time.monotonic() + 99, LoadedModels(generator=("another", "auto")))
    assert engines.asked("all", job) == ["cuda:3"]


def test_a_second_attempt_is_not_shared(engines: Engines) -> None:
    engines.submit()
    engines.store.release(engines.claim())
    assert engines.asked("all", engines.claim()) == []


def test_a_runner_that_cannot_share_neither_asks_nor_helps(engines: Engines) -> None:
    engines.submit()
    job = engines.claim()
    settings = Settings(home=engines.home, device="cuda:0", gpus_per_job="all")
    sharing = Sharing(settings, engines.store, WorkerRegistry(engines.database), lambda: False)
    with sharing.meeting(job, object()) as meeting:
        assert meeting is None
    assert sharing.help(object()) is False
    assert find_invitation(engines.home, "cuda:1") is None


class Home:
    """Two real engines of the embedded model, each under the name of a GPU."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.store = JobStore(Database(home / "jobs.db"))
        self._watch = self.store.database.watch()
        self.engines = {device: self._start(device) for device in ("cuda:0", "cuda:1")}
        rows = WorkerRegistry(self.store.database)
        self.wait(lambda: all((row := rows.get(device)) is not None and row.ready for device in self.engines))

    def _start(self, device: str) -> subprocess.Popen[bytes]:
        variables = {"HOME": str(self.home), "DEVICE": device, "GPUS_PER_JOB": "2", "COMPILE": "false", "THREADS": "1"}
        environment = os.environ | {f"WAN_MCP_{name}": value for name, value in variables.items()}
        with (self.home / f"{device}.log").open("wb") as log:
            return subprocess.Popen(ENGINE, env=environment, stderr=log)

    def wait(self, holds: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, self.logs
            self._watch.wait(0.2)

    @property
    def logs(self) -> str:
        return "\n".join((self.home / f"{device}.log").read_text() for device in self.engines)

    def submit(self, steps: int, device: str | None = None) -> str:
        """Queue a small video, for the engine of `device` if it is named."""
        asked = None if device is None else EngineSettings(device=device)
        small = {"width": 64, "height": 64, "num_frames": 9, "steps": steps, "engine": asked}
        plan = video_plan().model_copy(update=small)
        return self.store.submit(video_request(), plan, None, 99).id

    def job(self, job_id: str) -> Job:
        return self.store.get(job_id)

    def ends(self, job_id: str) -> Job:
        self.wait(lambda: self.job(job_id).state.final)
        return self.job(job_id)

    def steps_done(self, job_id: str) -> int:
        progress = self.job(job_id).progress
        return (progress.step or 0) if progress is not None else 0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = Home(tmp_path_factory.mktemp("home"))
    yield home
    for engine in home.engines.values():
        engine.kill()
        engine.wait()


def test_an_idle_engine_joins_a_job_cancels_with_it_and_when_it_dies_the_job_goes_on_alone(home: Home) -> None:
    for each in [home.submit(2, device) for device in home.engines]:  # each loads the model
        assert home.ends(each).state is JobState.SUCCEEDED
    shared = home.ends(home.submit(6))
    assert shared.state is JobState.SUCCEEDED, shared.error
    receipt = read_receipt(Path(shared.artifacts[0].path))
    assert receipt is not None
    assert receipt["gpus"] == 2
    assert "helped for" in home.logs

    cancelled = home.submit(2000)
    home.wait(lambda: home.steps_done(cancelled) >= 2)
    home.store.cancel(cancelled)
    assert home.ends(cancelled).state is JobState.CANCELLED

    lost = home.submit(100)
    home.wait(lambda: home.steps_done(lost) >= 2)
    first = home.job(lost).device
    [other] = [engine for device, engine in home.engines.items() if device != first]
    other.send_signal(signal.SIGKILL)
    ended = home.ends(lost)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert ended.attempt == 2
    assert not list((home.home / "meetings").iterdir())
