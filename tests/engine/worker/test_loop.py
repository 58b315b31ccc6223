"""The engine's real loop over the real runner: jobs in, files and reasons out."""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from filelock import Timeout

from tests.fixtures.bench import MANIFESTS, TWO, Bench, caption_plan, changed, image_plan, video_plan
from tests.support.patience import PATIENCE_S
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.aot import child_process
from wan_mcp.engine.device.device import auto_devices
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.engine.worker.loop import run_engine
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.errors import JobCancelled
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.media.receipts import read_receipt
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.schema.requests import VideoRequest


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    """The loop takes the process's signals: give them back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def submit(bench: Bench, plan: Plan) -> str:
    return bench.store.submit(VideoRequest(prompt=str(plan)), plan, None, 99).id


def serve(bench: Bench) -> None:
    """Be the engine until nothing waits any more."""
    run_engine(bench.settings, lambda settings: bench.runner, auto_devices)


class Onlooker(threading.Thread):
    """Another process's view: sees each progress of a job, and may cancel it at a step."""

    def __init__(self, bench: Bench, job_id: str, cancel_at: int | None = None) -> None:
        super().__init__(daemon=True)
        self._database = Database(bench.settings.database)
        self._store = JobStore(self._database)
        self._job_id = job_id
        self._cancel_at = cancel_at
        self.seen: list[Progress] = []
        self.start()

    def run(self) -> None:
        watch = self._database.watch()
        while not (job := self._store.get(self._job_id)).state.final:
            if job.progress and job.progress not in self.seen:
                self.seen.append(job.progress)
                if self._cancel_at is not None and (job.progress.step or 0) >= self._cancel_at:
                    self._store.cancel(self._job_id)
            watch.wait(5)
        watch.close()
        self._database.close()

    def progress(self) -> list[Progress]:
        self.join(PATIENCE_S)
        return self.seen


def finished(bench: Bench, job_id: str) -> Job:
    job = bench.store.get(job_id)
    assert job.state.final
    return job


def test_jobs_succeed_fail_and_are_cancelled_each_for_itself(bench: Bench) -> None:
    bench.catalog.manifests.pop(TWO)
    first = submit(bench, video_plan())
    failing = submit(bench, video_plan(TWO))
    cancelled = submit(bench, video_plan(steps=2000))
    caption = submit(bench, caption_plan(bench.picture()))
    again = submit(bench, video_plan())
    onlooker = Onlooker(bench, cancelled, cancel_at=1)
    serve(bench)
    assert onlooker.progress()

    assert finished(bench, first).state is JobState.SUCCEEDED
    assert finished(bench, failing).error is not None
    assert "no model 'tiny-two'" in finished(bench, failing).error.message  # type: ignore[union-attr]
    assert finished(bench, cancelled).state is JobState.CANCELLED
    assert finished(bench, cancelled).artifacts == ()
    assert finished(bench, caption).caption
    one, two = (Path(finished(bench, job).artifacts[0].path) for job in (first, again))
    assert one != two
    assert one.read_bytes() == two.read_bytes()
    receipt = read_receipt(one)
    assert receipt is not None
    assert receipt["request"]["prompt"] == "a red circle moving left"
    left = sorted(file.name for file in one.parent.iterdir() if file.name.startswith(one.stem))
    assert left == [f"{one.stem}.mp4", f"{one.stem}.poster.jpg", f"{one.stem}.sheet.jpg"]
    assert not [file for file in one.parent.iterdir() if file.name.startswith(".")]


def test_progress_rises_through_the_stages_and_is_measured_for_the_next(bench: Bench) -> None:
    plan = video_plan(steps=60)
    job = submit(bench, plan)
    onlooker = Onlooker(bench, job)
    serve(bench)
    seen = onlooker.progress()
    assert [progress.fraction for progress in seen] == sorted(progress.fraction for progress in seen)
    stages = list(dict.fromkeys(progress.stage for progress in seen))
    assert stages == [stage for stage in Stage if stage in stages]
    assert Stage.DENOISE in stages
    machine = WorkerRegistry(bench.store.database).machine("cpu")
    assert machine is not None
    assert (machine.name, machine.precision) == ("CPU", "fp32")
    timings = Timings(bench.store.database)
    assert (timings.latest_way("cpu", plan) or "").startswith("fp32")
    expected = timings.expect("cpu", plan)
    assert expected is not None
    assert set(expected) == {Stage.LOAD, Stage.ENCODE, Stage.DENOISE, Stage.DECODE, Stage.WRITE}


def test_a_full_media_disk_fails_the_job_with_what_to_do(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("wan_mcp.files.os.fsync", full)
        job = submit(bench, image_plan())
        serve(bench)
    error = finished(bench, job).error
    assert error is not None
    assert error.code == "out_of_space"
    assert not list((bench.settings.home / "media" / "images").iterdir())


def test_an_engine_that_ends_leaves_no_build_no_model_and_no_open_pipe(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wan_mcp.engine.aot.registry.BUILD", "tests.support.endless_build")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8"})
    bench.catalog.manifests[TWO] = changed(MANIFESTS[TWO], quantization=Quantization(recipe="fp8-rowwise"))
    started: list[subprocess.Popen[bytes]] = []

    def noted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        assert bench.runner.loaded().generator is not None, "while a model is loaded"
        started.append(start(*arguments, **options))
        return started[-1]

    start = child_process.start
    monkeypatch.setattr(child_process, "start", noted)
    job = submit(bench, video_plan(TWO))
    serve(bench)
    assert finished(bench, job).state is JobState.SUCCEEDED
    (build,) = started
    assert build.returncode is not None and build.stdin is not None and build.stdin.closed
    assert bench.runner.loaded() == LoadedModels()


def test_an_idle_engine_frees_the_device_before_another_may_start_and_loses_no_job_that_comes_meanwhile(
    bench: Bench, embedded: Path
) -> None:
    late: list[str] = []
    closed: list[ModelRunner] = []

    class Closing(ModelRunner):
        def close(self) -> None:
            with pytest.raises(Timeout):
                engine_lock(bench.settings.home, "cpu").acquire(blocking=False)
            assert not late or self.loaded() != LoadedModels()
            super().close()
            closed.append(self)
            if len(late) < 2:  # from a front that found the lock held, and relies on this engine
                late.append(submit(bench, image_plan(seed=len(late))))

    first = submit(bench, image_plan())
    run_engine(bench.settings, lambda settings: Closing(settings, bench.catalog, embedded=embedded), auto_devices)
    assert [finished(bench, job).state for job in (first, *late)] == [JobState.SUCCEEDED] * 3
    assert [runner.loaded() for runner in closed] == [LoadedModels()] * 3
    assert len(set(map(id, closed))) == 3
    assert WorkerRegistry(bench.store.database).get("cpu") is None


def test_a_second_signal_ends_an_engine_that_is_still_closing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def signalled(job: Job, report: Reporter) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        report.check()

    closing: list[object] = []
    monkeypatch.setattr(bench.runner, "run", signalled)
    monkeypatch.setattr(bench.runner, "close", lambda: closing.append(signal.getsignal(signal.SIGTERM)))
    job = submit(bench, image_plan())
    serve(bench)
    assert closing == [signal.SIG_DFL]
    assert bench.store.get(job).state is JobState.QUEUED


def test_an_engine_whose_runner_does_not_close_still_gives_its_device_back(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("the device is gone")

    monkeypatch.setattr(bench.runner, "close", broken)
    job = submit(bench, image_plan())
    serve(bench)
    assert finished(bench, job).state is JobState.SUCCEEDED
    assert WorkerRegistry(bench.store.database).get("cpu") is None
    with engine_lock(bench.settings.home, "cpu").acquire(blocking=False):
        assert "did not close in good order" in caplog.text


def test_a_job_that_stops_between_its_last_frame_and_its_file_leaves_no_half_file_and_no_encoder(bench: Bench) -> None:
    bench.run(video_plan())
    ear = bench.ear(video_plan(seed=99))
    ear.stop_at, ear.error = lambda ear: ear.heard[-1][0] is Stage.WRITE, JobCancelled
    with pytest.raises(JobCancelled):
        bench.run(video_plan(seed=99), ear)
    assert [child for child in psutil.Process().children() if "ffmpeg" in child.name()] == []
    assert list((bench.settings.home / "media").rglob("*.part")) == []
