"""The queue of one home, served by the machines of a cluster."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
from PIL import Image

from tests.support.patience import PATIENCE_S
from tests.support.ray_cluster import ClusterHome, RayCluster
from wan_mcp.files import sha256_of
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import EngineSettings, LoraPlan
from wan_mcp.settings import Settings


def succeeded(studio: ClusterHome, *jobs: Job) -> bool:
    return all(studio.job(job).state is JobState.SUCCEEDED for job in jobs)


def running(studio: ClusterHome, *jobs: Job) -> bool:
    now = [studio.job(job) for job in jobs]
    return all(job.state is JobState.RUNNING and job.progress is not None and job.progress.step for job in now)


def device_of(studio: ClusterHome, job: Job) -> str:
    device = studio.job(job).device
    assert device is not None
    return device


def test_every_machine_runs_jobs_and_the_results_are_here(studio: ClusterHome) -> None:
    jobs = [studio.submit(f"circle {number}", steps=40) for number in range(3)]
    studio.until(lambda: running(studio, *jobs))
    assert {studio.job(job).device for job in jobs} == set(studio.serving())
    assert set(studio.front.states().values()) == {"busy", "off"}  # off: this machine's own
    stopped = subprocess.run(
        [sys.executable, "-m", "wan_mcp", "engine", "stop"],
        env=studio.settings.environment() | {"PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "end with the command 'wan-mcp cluster'" in stopped.stdout
    studio.until(lambda: succeeded(studio, *jobs))
    for job in jobs:
        [result] = studio.job(job).artifacts
        assert result.path.startswith(str(studio.settings.home))
        assert len(Path(result.path).read_bytes()) == result.bytes
        assert studio.front.timetable().seconds(device_of(studio, job), job.plan, True) is not None
    studio.until(lambda: not any(studio.folder.rglob("*.mp4")))


def test_a_job_is_cancelled_where_it_runs(studio: ClusterHome) -> None:
    job = studio.submit(steps=10_000)
    studio.until(lambda: running(studio, job))
    studio.store.cancel(job.id)
    studio.until(lambda: studio.job(job).state is JobState.CANCELLED)


def test_a_job_whose_caller_named_a_device_of_this_machine_runs_there(studio: ClusterHome) -> None:
    job = studio.submit(engine=EngineSettings(device="cpu"))
    studio.until(lambda: succeeded(studio, job))
    assert studio.job(job).device == "cpu"


def test_files_come_and_go_while_the_object_stores_are_full(
    studio: ClusterHome, cluster: RayCluster, tmp_path: Path
) -> None:
    lora = tmp_path / "turns.safetensors"
    lora.write_bytes(os.urandom(3 * 1024 * 1024 + 1))
    digest = sha256_of(lora)
    adapter = LoraPlan(name="turns", file=str(lora), sha256=digest, scale=1.0, expert=None)
    with cluster.full_stores():
        job = studio.submit(lora=(adapter,))
        studio.until(lambda: studio.job(job).state.final)
    assert (studio.job(job).state, studio.job(job).attempt) == (JobState.SUCCEEDED, 1)
    [result] = studio.job(job).artifacts
    assert result.bytes > 100 * 1024  # smaller pieces travel past the store in any case
    assert Path(result.path).stat().st_size == result.bytes
    [sent] = studio.machine(device_of(studio, job)).rglob(f"{digest}.safetensors")
    assert sha256_of(sent) == digest


def test_a_killed_actor_costs_its_job_an_attempt(studio: ClusterHome) -> None:
    job = studio.submit(steps=60)
    studio.until(lambda: running(studio, job))
    studio.actor(device_of(studio, job)).kill()
    studio.until(lambda: succeeded(studio, job))
    assert studio.job(job).attempt == 2
    assert len(studio.job(job).artifacts) == 1
    studio.until(lambda: len(studio.serving()) == 3)


def test_a_machine_that_joins_takes_jobs_and_one_that_dies_gives_them_back(
    hasty: ClusterHome, cluster: RayCluster
) -> None:
    before = set(hasty.serving())
    node = cluster.add_node()
    hasty.until(lambda: len(hasty.serving()) == 4)
    [new] = set(hasty.serving()) - before
    jobs = [hasty.submit(f"circle {number}", steps=80) for number in range(5)]
    hasty.until(lambda: running(hasty, *jobs[:4]))
    [lost] = [job for job in jobs if hasty.job(job).device == new]
    cluster.remove_node(node, graceful=False)
    hasty.until(lambda: succeeded(hasty, *jobs))
    assert device_of(hasty, lost) in before
    assert all(len(hasty.job(job).artifacts) == 1 for job in jobs)
    hasty.until(lambda: set(hasty.serving()) == before)


def test_a_dispatcher_that_was_killed_finds_its_actors_at_work(studio: ClusterHome) -> None:
    jobs = [studio.submit(f"circle {number}", steps=100) for number in range(3)]
    studio.until(lambda: running(studio, *jobs))
    actors = {device: studio.actor(device).pid for device in studio.serving()}
    studio.kill()
    waiting = studio.submit()
    for _ in range(5):
        studio.front.supervise()
    assert {studio.job(job).state for job in jobs} == {JobState.RUNNING}
    assert studio.job(waiting).state is JobState.QUEUED
    studio.start()
    studio.until(lambda: succeeded(studio, *jobs, waiting))
    assert {studio.job(job).attempt for job in jobs} == {1}
    assert {device: studio.actor(device).pid for device in studio.serving()} == actors


def test_a_dispatcher_that_is_stopped_ends_its_actors_and_returns_their_jobs(studio: ClusterHome) -> None:
    job = studio.submit(steps=10_000)
    studio.until(lambda: running(studio, job))
    actors = [studio.actor(device) for device in studio.serving()]
    studio.stop()
    assert not any(actor.is_running() for actor in actors)
    now = studio.job(job)
    assert (now.state, now.crashes) == (JobState.QUEUED, 0), studio.log()
    studio.store.cancel(job.id)
    studio.start()
    studio.until(lambda: len(studio.serving()) == 3)


def test_a_machine_that_stands_still_loses_its_job_and_cannot_end_it_later(hasty: ClusterHome) -> None:
    job = hasty.submit(steps=60)
    hasty.until(lambda: running(hasty, job))
    slow = hasty.actor(device_of(hasty, job))
    slow.suspend()
    hasty.until(lambda: succeeded(hasty, job))
    [result] = hasty.job(job).artifacts
    made = Path(result.path).stat().st_mtime_ns
    if slow.is_running():
        slow.resume()
    psutil.wait_procs([slow], PATIENCE_S)
    assert hasty.job(job).attempt > 1
    assert Path(result.path).stat().st_mtime_ns == made
    hasty.until(lambda: len(hasty.serving()) == 3)


def test_without_its_dispatcher_a_job_is_free_only_when_its_actor_has_ended(hasty: ClusterHome) -> None:
    job = hasty.submit(steps=100_000)
    hasty.until(lambda: running(hasty, job))
    actor = hasty.actor(device_of(hasty, job))
    hasty.kill()
    hasty.process = None
    ended_before = []

    def is_free() -> bool:
        free = hasty.job(job).state is not JobState.RUNNING or hasty.job(job).device == "cpu"
        if free:
            ended_before.append(not actor.is_running())
        return free

    hasty.until(is_free)
    hasty.store.cancel(job.id)
    hasty.start()
    hasty.until(lambda: len(hasty.serving()) == 3 and hasty.job(job).state is JobState.CANCELLED)
    assert ended_before == [True]


def test_real_engines_on_other_machines_animate_a_picture_of_this_one(cluster: RayCluster, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (128, 128), "red").save(picture)
    settings = Settings(home=tmp_path / "home", device="auto", image_dirs=(tmp_path,), threads=1)
    home = ClusterHome(settings, cluster, lease_s=60.0)
    home.start()
    try:
        home.until(lambda: len(home.serving()) == 3)
        command = ["generate", "video", "it turns", "--image", str(picture), "--steps", "2", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "wan_mcp", *command],
            env=settings.environment() | {"PATH": ""},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, (done.stderr, home.log())
        [job] = home.store.newest()
        assert "@" in device_of(home, job)
        [result] = job.artifacts
        assert Path(result.path).is_relative_to(settings.home)
        assert result.path in json.dumps(json.loads(done.stdout))
        kept = [file for file in home.machine(device_of(home, job)).rglob("*.png") if file.parent.name == "inputs"]
        assert [file.stem for file in kept] == [job.plan.images["image"].sha256]
    finally:
        home.close()
