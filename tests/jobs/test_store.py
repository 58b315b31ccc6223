"""The verbs on jobs: who may change what, and what survives whom."""

import threading
from pathlib import Path

import pytest

from tests.fixtures.job_table import Clock, video_plan, video_request
from wan_mcp.errors import BadRequest, LeaseLost, QueueFull, UnknownJob
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.job_ids import new_job_id
from wan_mcp.jobs.store import DOWNLOADS_ALLOWED, JobStore
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Artifact, Job, JobError, Progress

HALFWAY = Progress(stage=Stage.DENOISE, step=6, steps=12, fraction=0.5, eta_s=2.0)
ARTIFACT = Artifact(uri="wan://videos/x-0.mp4", mime_type="video/mp4", bytes=9, width=8, height=8, seed=1, path="/x")


def submit(store: JobStore, prompt: str = "a red circle", request_id: str | None = None, limit: int = 8) -> Job:
    return store.submit(video_request(prompt), video_plan(prompt), request_id, limit)


def claimed(store: JobStore, device: str = "cpu") -> Job:
    job = store.claim(device)
    assert job is not None
    return job


def test_a_submitted_job_is_read_back_whole(store: JobStore, clock: Clock) -> None:
    job = submit(store, request_id="r1")
    assert store.get(job.id) == job
    assert job.state is JobState.QUEUED
    assert job.plan == video_plan()
    assert job.created_at == clock.now
    assert job.request_id == "r1"


def test_a_row_of_a_newer_version_is_read_without_what_only_that_one_knows(store: JobStore) -> None:
    submit(store)
    job = claimed(store)
    store.report(job, HALFWAY)
    store.add_artifact(job, ARTIFACT)
    with store.database.write() as connection:
        connection.execute(
            "UPDATE jobs SET plan = json_set(plan, '$.new', 1), progress = json_set(progress, '$.new', 1),"
            " artifacts = json_set(artifacts, '$[0].new', 1)"
        )
    read = store.get(job.id)
    assert (read.plan, read.progress, read.artifacts) == (job.plan, HALFWAY, (ARTIFACT,))


def test_a_job_outlives_the_process_that_submitted_it(tmp_path: Path) -> None:
    first = Database(tmp_path / "jobs.db")
    job = submit(JobStore(first))
    first.close()
    second = Database(tmp_path / "jobs.db")
    assert JobStore(second).get(job.id) == job
    second.close()


def test_an_unknown_job_is_refused_with_the_way_to_find_it(store: JobStore) -> None:
    with pytest.raises(UnknownJob, match="list_jobs"):
        store.get("nothing")
    with pytest.raises(UnknownJob):
        store.cancel("nothing")


def test_jobs_are_claimed_in_the_order_of_their_submission(store: JobStore) -> None:
    ids = [submit(store, f"prompt {i}").id for i in range(4)]
    assert [claimed(store).id for _ in ids] == ids
    assert store.claim("cpu") is None


def test_jobs_of_models_whose_weights_are_coming_are_not_claimed(store: JobStore) -> None:
    waiting = submit(store)
    assert store.claim("cpu", except_models=["another", waiting.plan.model]) is None
    assert store.claim("cpu", except_models=["another"]) is not None


def test_each_of_many_racing_engines_claims_a_job_that_no_other_has(tmp_path: Path) -> None:
    setup = Database(tmp_path / "jobs.db")
    ids = {submit(JobStore(setup), f"prompt {i}", limit=99).id for i in range(40)}
    start = threading.Barrier(4)
    claims: list[str] = []

    def claim_all(device: str) -> None:
        database = Database(tmp_path / "jobs.db")
        start.wait()
        while (job := JobStore(database).claim(device)) is not None:
            claims.append(job.id)
        database.close()

    engines = [threading.Thread(target=claim_all, args=(f"cuda:{n}",)) for n in range(4)]
    for engine in engines:
        engine.start()
    for engine in engines:
        engine.join()
    setup.close()
    assert sorted(claims) == sorted(ids)


def test_the_same_request_id_gives_the_job_that_it_started(store: JobStore) -> None:
    first = submit(store, request_id="r1")
    assert submit(store, request_id="r1").id == first.id
    assert len(store.newest()) == 1


def test_a_request_id_attaches_even_when_the_queue_is_full(store: JobStore) -> None:
    first = submit(store, request_id="r1", limit=1)
    assert submit(store, request_id="r1", limit=1).id == first.id


def test_a_request_id_attaches_to_the_job_of_a_version_that_had_fewer_parameters(store: JobStore) -> None:
    first = submit(store, request_id="r1")
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET request = json_remove(request, '$.last_image', '$.turbo')")
    assert submit(store, request_id="r1").id == first.id


def test_a_request_id_of_a_newer_version_with_more_parameters_is_for_another_request(store: JobStore) -> None:
    submit(store, request_id="r1")
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET request = json_set(request, '$.sound', 'rain')")
    with pytest.raises(BadRequest, match="of a different request"):
        submit(store, request_id="r1")


def test_a_request_id_for_another_request_is_refused(store: JobStore) -> None:
    submit(store, "a red circle", request_id="r1")
    with pytest.raises(BadRequest, match="r1"):
        submit(store, "a blue square", request_id="r1")
    with pytest.raises(BadRequest, match="new request_id"):
        store.attached(video_request("a blue square"), "r1")


def test_a_full_queue_refuses_the_next_job_and_running_ones_do_not_count(store: JobStore) -> None:
    submit(store, "one", limit=2)
    submit(store, "two", limit=2)
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        submit(store, "three", limit=2)
    store.claim("cpu")
    submit(store, "three", limit=2)


def test_a_queued_job_is_cancelled_at_once(store: JobStore) -> None:
    job = submit(store)
    assert store.cancel(job.id).state is JobState.CANCELLED
    assert store.claim("cpu") is None


def test_a_running_job_learns_that_it_should_stop_when_it_reports(store: JobStore) -> None:
    submit(store)
    job = claimed(store)
    assert not store.report(job, HALFWAY)
    assert store.cancel(job.id).state is JobState.RUNNING
    assert store.report(job, HALFWAY)
    assert store.cancel_requested(job)
    store.finish(job, JobState.CANCELLED)
    assert store.get(job.id).state is JobState.CANCELLED


def test_cancelling_a_finished_job_changes_nothing(store: JobStore) -> None:
    submit(store)
    job = claimed(store)
    store.finish(job, JobState.SUCCEEDED)
    before = store.get(job.id)
    assert store.cancel(job.id) == before


def test_progress_artifacts_and_end_are_in_the_row(store: JobStore, clock: Clock) -> None:
    submit(store)
    job = claimed(store)
    clock.now += 5
    store.report(job, HALFWAY)
    store.add_artifact(job, ARTIFACT)
    store.add_artifact(job, ARTIFACT.model_copy(update={"seed": 2}))
    store.add_note(job, "it's cut")
    store.finish(job, JobState.SUCCEEDED)
    done = store.get(job.id)
    assert done.progress == HALFWAY
    assert done.updated_at == done.finished_at == clock.now
    assert [a.seed for a in done.artifacts] == [1, 2]
    assert done.notes == ("it's cut",)


def test_a_dead_engines_job_goes_back_to_its_old_place_once_and_fails_the_second_time(store: JobStore) -> None:
    first, second = submit(store, "first"), submit(store, "second")
    store.claim("cpu")
    assert [job.id for job in store.requeue_orphans("cpu")] == [first.id]
    assert store.get(first.id).state is JobState.QUEUED
    assert claimed(store).id == first.id  # before the second one
    (buried,) = store.requeue_orphans("cpu")
    assert buried.state is JobState.FAILED
    assert buried.error is not None and buried.error.code == "engine_died"
    assert claimed(store).id == second.id


@pytest.mark.parametrize("stage", [Stage.DOWNLOAD, Stage.CHECK])
def test_a_download_is_not_to_blame_for_the_death_of_its_engine(store: JobStore, stage: Stage) -> None:
    coming = Progress(stage=stage, fraction=0.0)
    download, other = submit(store, "first"), submit(store, "second")
    for state in (JobState.QUEUED, JobState.FAILED):
        store.report(claimed(store), coming)
        store.report(claimed(store), HALFWAY)
        assert {job.id: (job.state, job.crashes) for job in store.requeue_orphans("cpu")}[download.id] == (
            JobState.QUEUED,
            0,
        )
        assert store.get(other.id).state is state
    while (job := claimed(store)).attempt < DOWNLOADS_ALLOWED:
        store.report(job, coming)
        assert [(job.id, job.crashes) for job in store.requeue_orphans("cpu")] == [(download.id, 0)]
    store.report(job, coming)
    assert [(job.id, job.crashes) for job in store.requeue_orphans("cpu")] == [(download.id, 1)], (
        "this goes on for too long"
    )


def test_a_download_that_was_being_cancelled_when_its_engine_died_is_cancelled(store: JobStore) -> None:
    download = submit(store)
    store.report(claimed(store), Progress(stage=Stage.DOWNLOAD, fraction=0.0))
    store.cancel(download.id)
    store.requeue_orphans("cpu")
    assert store.get(download.id).state is JobState.CANCELLED
    assert store.get(download.id).finished_at is not None


def test_a_job_that_was_being_cancelled_when_its_engine_died_is_cancelled(store: JobStore) -> None:
    submit(store)
    job = claimed(store)
    store.cancel(job.id)
    (buried,) = store.requeue_orphans("cpu")
    assert buried.state is JobState.CANCELLED


def test_burying_one_device_leaves_the_jobs_of_another(store: JobStore) -> None:
    submit(store)
    job = claimed(store, "cuda:1")
    assert store.requeue_orphans("cuda:0") == []
    assert store.get(job.id).state is JobState.RUNNING


def test_an_engine_that_was_given_up_cannot_touch_the_next_attempt(store: JobStore) -> None:
    submit(store)
    ghost = claimed(store)
    store.requeue_orphans("cpu")
    heir = claimed(store)
    with pytest.raises(LeaseLost):
        store.report(ghost, HALFWAY)
    with pytest.raises(LeaseLost):
        store.add_artifact(ghost, ARTIFACT)
    with pytest.raises(LeaseLost):
        store.finish(ghost, JobState.SUCCEEDED)
    store.finish(heir, JobState.SUCCEEDED)
    assert store.get(heir.id).state is JobState.SUCCEEDED


def test_a_released_job_is_queued_again_and_nobody_died(store: JobStore) -> None:
    submit(store)
    job = claimed(store)
    store.release(job)
    again = claimed(store)
    assert (again.id, again.attempt, again.crashes) == (job.id, 2, 0)


def test_all_waiting_jobs_fail_with_the_reason_when_no_engine_can_start(store: JobStore) -> None:
    submit(store, "running")
    running = claimed(store)
    waiting = submit(store, "waiting")
    reason = JobError(code="engine_failed", message="no torch")
    assert store.fail_queued(reason) == 1
    assert store.get(waiting.id).error == reason
    assert store.get(running.id).state is JobState.RUNNING


def test_jobs_are_listed_newest_first_and_by_state(store: JobStore) -> None:
    ids = [submit(store, f"prompt {i}").id for i in range(3)]
    job = claimed(store)
    store.finish(job, JobState.FAILED, error=JobError(code="x", message="y"))
    assert [j.id for j in store.newest()] == ids[::-1]
    assert [j.id for j in store.newest(JobState.FAILED)] == ids[:1]
    assert [j.id for j in store.newest(limit=1)] == ids[2:]
    assert [j.id for j in store.unfinished()] == ids[1:]


def test_ids_are_long_and_never_repeat() -> None:
    ids = {new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(i) for i in ids} == {20}


def test_a_job_that_goes_back_after_somebody_cancelled_it_is_cancelled(store: JobStore, clock: Clock) -> None:
    submit(store)
    job = claimed(store)
    store.cancel(job.id)
    clock.now += 3
    store.release(job)
    assert store.get(job.id).state is JobState.CANCELLED
    assert store.get(job.id).finished_at == clock.now
