"""A machine of the cluster whose link to the dispatcher is cut and mended, in network namespaces."""

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cluster.conftest import served
from tests.support.cut_cluster import CutCluster, cut_cluster, why_not
from tests.support.ray_cluster import ClusterHome
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

LEASE_S = 10.0


@pytest.fixture(scope="module")
def cable() -> Iterator[CutCluster]:
    if why := why_not():
        pytest.skip(why)
    with cut_cluster() as made:
        yield made


@pytest.fixture(scope="module")
def home(cable: CutCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterHome]:
    with served(tmp_path_factory.mktemp("cut"), cable, LEASE_S, machines=2) as made:
        yield made


def begun_far(home: ClusterHome, cable: CutCluster, steps: int) -> tuple[Job, psutil.Process]:
    """Start a job on each machine, and return that of the far one and its actor."""
    jobs = [home.submit(f"circle {number}", steps=steps) for number in range(2)]
    home.until(lambda: all((now := home.job(job)).progress is not None and now.progress.step for job in jobs))
    for job in jobs:
        device = home.job(job).device
        assert device is not None
        if cable.is_far(actor := home.actor(device)):
            return job, actor
    raise AssertionError("no job runs on the far machine")


def whole_once(home: ClusterHome, job: Job) -> bool:
    """Check that a job has one result, which is whole, and that no part of another one lies in the home."""
    [result] = home.job(job).artifacts
    written = [file.name for file in (home.settings.home / "media" / "videos").iterdir() if job.id in file.name]
    kept = Path(result.path)
    return (
        kept.stat().st_size == result.bytes and written.count(kept.name) == 1 and not any("part" in x for x in written)
    )


def freed_after(home: ClusterHome, job: Job, actor: psutil.Process) -> bool:
    """Wait until another engine may run a job, and return whether its actor had ended by then."""
    ended_before: list[bool] = []

    def is_free() -> bool:
        now = home.job(job)
        if free := (now.state, now.attempt) != (JobState.RUNNING, 1):
            ended_before.append(not actor.is_running())
        return free

    home.until(is_free)
    return ended_before == [True]


def test_a_job_that_ends_behind_a_cut_link_is_brought_when_it_is_mended(home: ClusterHome, cable: CutCluster) -> None:
    job, actor = begun_far(home, cable, 30)
    device = home.job(job).device
    assert device is not None
    table = Database(home.machine(device) / "jobs.db")
    try:
        there = JobStore(table)
        cable.cut()
        home.until(lambda: there.get(job.id).state is JobState.SUCCEEDED)
        assert home.job(job).state is JobState.RUNNING
    finally:
        cable.mend()
        table.close()
    home.until(lambda: home.job(job).state.final)
    assert (home.job(job).state, home.job(job).attempt) == (JobState.SUCCEEDED, 1)
    assert whole_once(home, job)
    assert actor.is_running()


def test_a_job_behind_a_link_that_stays_cut_runs_again_when_its_actor_has_ended(
    home: ClusterHome, cable: CutCluster
) -> None:
    job, actor = begun_far(home, cable, 60)
    cable.cut()
    try:
        assert freed_after(home, job, actor)
        home.until(lambda: home.job(job).state.final)
        assert len(home.serving()) == 1
    finally:
        cable.mend()
    home.until(lambda: len(home.serving()) == 2)
    assert (home.job(job).state, home.job(job).attempt) == (JobState.SUCCEEDED, 2)
    assert whole_once(home, job)


def test_a_dispatcher_that_is_stopped_leaves_jobs_alone_that_may_run_behind_a_cut_link(
    home: ClusterHome, cable: CutCluster
) -> None:
    job, actor = begun_far(home, cable, 10_000)
    cable.cut()
    try:
        home.stop()
        assert freed_after(home, job, actor)
    finally:
        cable.mend()
        for each in home.store.unfinished():
            home.store.cancel(each.id)
    home.until(lambda: not home.store.unfinished())
