"""Whom an engine asks to share a job, and real engines that share one."""

import errno
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.engine.worker.sharing import Sharing
from wan_mcp.errors import BadRequest
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.gpus_per_job import MIN_STEP_S
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.meetings import Meeting, find_invitation, invite
from wan_mcp.jobs.processes import Processes
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan
from wan_mcp.settings import Settings

ENGINE = [sys.executable, str(Path(__file__).parents[2] / "support" / "cpu_engine.py")]
MODEL = video_plan().model


def no() -> bool:
    return False


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

    def device_lost(self) -> bool:
        return False

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

    def takes(self, seconds: float, way: str = "") -> None:
        """Record how long a step takes."""
        plan = video_plan()
        work = stage_work(plan)[Stage.DENOISE]
        Timings(self.database).record("cuda:0", plan.model, Stage.DENOISE, work, seconds, way)

    def sharing(self, device: str, setting: Any = "all") -> Sharing:
        """Return the sharing of one of the engines."""
        settings = Settings(home=self.home, device=device, gpus_per_job=setting)
        return Sharing(settings, self.store, WorkerRegistry(self.database), no, no)

    def asked(self, setting: Any, job: Job) -> list[str]:
        """Return which engines are asked to share a job."""
        sharing = self.sharing("cuda:0", setting)
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


@pytest.mark.parametrize("way", ["fp8+2gpus", "fp8+aot+4gpus+turbo"])
def test_auto_goes_by_the_steps_of_one_gpu_also_when_shared_ones_were_shorter(engines: Engines, way: str) -> None:
    engines.takes(1.5 * MIN_STEP_S, "fp8")
    for _ in range(5):
        engines.takes(MIN_STEP_S / 2, way)
    engines.submit()
    assert len(engines.asked("auto", engines.claim())) == 3


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
    sharing = engines.sharing("cuda:0")
    with sharing.meeting(job, object()) as meeting:
        assert meeting is None
    assert sharing.help(object()) is False
    assert find_invitation(engines.home, "cuda:1") is None


def test_a_job_runs_alone_when_the_others_cannot_be_told(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Meeting, "_accepted", lambda meeting, invited: [*invited])

    def start(meeting: Meeting, count: int) -> Meeting:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Meeting, "start", start)
    engines.submit()
    with engines.sharing("cuda:0").meeting(engines.claim(), Shares()) as meeting:
        assert meeting is None
    assert find_invitation(engines.home, "cuda:1") is None


@pytest.mark.parametrize("lost", [False, True])
def test_an_engine_that_loses_its_device_as_it_helps_ends_before_it_claims_a_job(engines: Engines, lost: bool) -> None:
    class Fails(Shares):
        def device_lost(self) -> bool:
            return lost

    engines.submit()
    job = engines.claim()
    Meeting(invite(engines.home, job, ["cuda:1"]).folder, job.id, ("cuda:0", "cuda:1")).start(2)
    with pytest.raises(NotImplementedError) if lost else nullcontext():
        assert engines.sharing("cuda:1").help(Fails())


def test_an_engine_that_helps_is_busy_and_does_not_end_to_free_memory(
    engines: Engines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "ask_to_end", lambda processes, identity: None)
    engines.submit()
    job = engines.claim()
    front = Supervisor(Settings(home=engines.home, device="cuda:0,1"), engines.store)
    meeting = Meeting(invite(engines.home, job, ["cuda:1"]).folder, job.id, ("cuda:0", "cuda:1")).start(2)
    assert front.states() == {"cuda:0": "busy", "cuda:1": "busy", "cuda:2": "idle", "cuda:3": "idle"}
    assert [each.device for each in front.in_view() if each.free_in_s == 0] == ["cuda:2", "cuda:3"]
    with pytest.raises(BadRequest, match="has jobs"):
        front.free()
    meeting.close()
    assert front.states()["cuda:1"] == "idle"
    assert front.free()


class Home:
    """A home whose front starts real engines of the embedded model, each under the name of a GPU."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.settings = Settings(
            home=home, device="cuda:0,1", gpus_per_job="2", compile=False, threads=1, engine_command=shlex.join(ENGINE)
        )
        self.store = JobStore(Database(self.settings.database))
        self.front = Supervisor(self.settings, self.store)
        self._watch = self.store.database.watch()

    def wait(self, holds: Callable[[], Any]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, self.log
            self._watch.wait(0.2)

    def supervise_until(self, holds: Callable[[], Any]) -> None:
        """Wait, and let the front do its duty."""

        def look() -> Any:
            self.front.supervise()
            return holds()

        self.wait(look)

    def process(self, device: str) -> psutil.Process:
        """Return the engine of a device."""
        engine = self.front.engine(device)
        process = engine.process() if engine is not None else None
        assert process is not None
        return process

    @property
    def log(self) -> str:
        return self.settings.log_file.read_text()

    def models(self) -> dict[str, str]:
        """Return the models that engines load ahead or run jobs with, by device."""
        loaded = {row.device: row.loaded.generator for row in self.front.engines()}
        running = {job.device: job.plan.model for job in self.store.unfinished() if job.device is not None}
        return {device: model[0] for device, model in loaded.items() if model is not None} | running

    def submit(self, steps: int) -> str:
        """Queue a small video."""
        small = {"width": 64, "height": 64, "num_frames": 9, "steps": steps}
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
    for row in home.front.engines():
        process = home.process(row.device)
        process.kill()
        process.wait()


def test_an_idle_engine_gets_ready_joins_the_next_job_cancels_with_it_and_when_it_dies_the_job_goes_on_alone(
    home: Home,
) -> None:
    alone = home.submit(2000)
    home.supervise_until(lambda: home.models() == {"cuda:0": "wan-mini", "cuda:1": "wan-mini"})
    assert (home.job(alone).state, home.job(alone).device) == (JobState.RUNNING, "cuda:0")
    assert "shared by" not in home.log
    home.store.cancel(alone)
    assert home.ends(alone).state is JobState.CANCELLED
    home.wait(lambda: all(row.loaded.generator for row in home.front.engines()))  # the first says so after its job

    shared = home.ends(home.submit(6))
    assert shared.state is JobState.SUCCEEDED, shared.error
    receipt = read_receipt(Path(shared.artifacts[0].path))
    assert receipt is not None
    assert receipt["gpus"] == 2
    assert "helped for" in home.log

    cancelled = home.submit(2000)
    home.wait(lambda: home.steps_done(cancelled) >= 2)
    home.store.cancel(cancelled)
    assert home.ends(cancelled).state is JobState.CANCELLED

    lost = home.submit(100)
    home.wait(lambda: home.steps_done(lost) >= 2)
    [other] = {"cuda:0", "cuda:1"} - {home.job(lost).device}
    home.process(other).kill()
    ended = home.ends(lost)
    assert ended.state is JobState.SUCCEEDED, ended.error
    assert ended.attempt == 2
    assert not list((home.home / "meetings").iterdir())
