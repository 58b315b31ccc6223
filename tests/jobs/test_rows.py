"""Rows that cannot be understood: each costs itself and nobody else."""

import json
from collections.abc import Callable

import pytest

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.errors import QueueFull, UnreadableRow
from wan_mcp.jobs.rows import is_device_name
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress

NONSENSE = {
    "a task of a newer version": "plan = json_set(plan, '$.task', 'text-to-3d')",
    "a kind of a newer version": "plan = json_set(plan, '$.kind', 'audio')",
    "a precision of a newer version": "plan = json_set(plan, '$.precision', 'fp4')",
    "a plan that is no JSON": "plan = substr(plan, 1, 40)",
    "an empty plan": "plan = ''",
    "a plan of another type": "plan = '[1, 2]'",
    "a plan without its model": "plan = json_remove(plan, '$.model')",
    "a plan whose steps are missing": "plan = json_set(plan, '$.steps', NULL)",
    "a width of many digits": "plan = replace(plan, '\"width\":128', '\"width\":1' || hex(zeroblob(200)))",
    "a number that is infinite": "plan = replace(plan, '\"fps\":8.0', '\"fps\":1e999')",
    "no steps at all": "plan = json_set(plan, '$.steps', 0)",
    "a negative count": "plan = json_set(plan, '$.count', -3)",
    "a plan as deep as a stack": "plan = replace(hex(zeroblob(50000)), '00', '[')",
    "text that is not UTF-8": "plan = CAST(x'7bfffe22' AS TEXT)",
    "artifacts that are null": "artifacts = 'null'",
    "artifacts of a newer kind": "artifacts = '[{\"uri\": 1}]'",
    "notes that are no list": "notes = '{}'",
    "an error that is no JSON": "error = '{'",
    "a time after all calendars": "created_at = 1e300",
    "a time before all calendars": "started_at = -1e300",
    "an infinite time": "updated_at = 9e999",
    "an attempt that cannot be counted on": "attempt = 9223372036854775807",
    "more deaths than engines": "deaths = 9223372036854775807",
    "a device that climbs": "device = '../../etc/passwd'",
}


@pytest.fixture
def spoilt(store: JobStore) -> Callable[[str], tuple[Job, Job]]:
    """`spoilt(assignment)`: two queued jobs, the first of them changed in the table."""

    def spoil(assignment: str) -> tuple[Job, Job]:
        first, second = (store.submit(video_request(p), video_plan(p), p, 2) for p in ("first", "second"))
        with store.database.write() as connection:
            connection.execute(f"UPDATE jobs SET {assignment} WHERE id = ?", (first.id,))
        return first, second

    return spoil


@pytest.mark.parametrize("assignment", NONSENSE.values(), ids=NONSENSE)
def test_a_row_that_cannot_be_understood_is_shown_and_never_run_and_all_others_go_on(
    store: JobStore, spoilt: Callable[[str], tuple[Job, Job]], assignment: str
) -> None:
    bad, good = spoilt(assignment)
    listing = store.listed()
    assert [job.id for job in listing.jobs] == [good.id]
    [shown] = listing.unreadable
    assert shown.id == bad.id
    assert 0 < len(shown.reason) <= 300
    with pytest.raises(UnreadableRow, match=f"{bad.id}.* is unreadable: .*doctor --repair"):
        store.get(bad.id)
    with pytest.raises(UnreadableRow):
        store.submit(video_request("first"), video_plan("first"), "first", 2)
    assert [job.id for job in store.unfinished()] == [good.id]
    claimed = store.claim("cpu")
    assert claimed is not None and claimed.id == good.id
    store.finish(claimed, JobState.SUCCEEDED)
    assert not store.has_queued()
    assert store.claim("cpu") is None
    assert store.requeue_orphans("cpu") == []
    assert store.listed().unreadable == [shown], "it was changed"


def test_a_row_that_nobody_can_read_takes_no_place_in_the_queue(
    store: JobStore, spoilt: Callable[[str], tuple[Job, Job]]
) -> None:
    spoilt("plan = 'nonsense'")
    store.submit(video_request("third"), video_plan("third"), None, 2)
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        store.submit(video_request("fourth"), video_plan("fourth"), None, 2)


def test_a_state_of_a_newer_version_is_neither_run_nor_finished(
    store: JobStore, spoilt: Callable[[str], tuple[Job, Job]]
) -> None:
    bad, good = spoilt("state = 'paused'")
    [shown] = store.listed().unreadable
    assert (shown.id, shown.state) == (bad.id, "paused")
    assert "'paused' is not one of queued, running" in shown.reason
    assert [job.id for job in store.unfinished()] == [good.id]


def test_an_unreadable_job_can_be_cancelled(store: JobStore, spoilt: Callable[[str], tuple[Job, Job]]) -> None:
    bad, _ = spoilt("plan = 'nonsense'")
    with pytest.raises(UnreadableRow, match="cancelled"):
        store.cancel(bad.id)


@pytest.mark.parametrize(
    "progress", ['{"stage": "dreaming", "fraction": 0.5}', "{", "null", "[]", '{"stage": "loading", "fraction": 1e999}']
)
def test_a_progress_that_cannot_be_understood_costs_only_itself(store: JobStore, progress: str) -> None:
    store.submit(video_request(), video_plan(), None, 2)
    job = store.claim("cpu")
    assert job is not None
    store.report(job, Progress(stage=Stage.LOAD, fraction=0.0))
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET progress = ?", (progress,))
    read = store.get(job.id)
    assert (read.state, read.progress) == (JobState.RUNNING, None)
    assert any("progress is unreadable" in note for note in read.notes)
    [requeued] = store.requeue_orphans("cpu")
    assert (requeued.state, requeued.notes) == (JobState.QUEUED, ())


def test_what_a_row_says_about_itself_is_text_for_a_terminal_too(
    store: JobStore, spoilt: Callable[[str], tuple[Job, Job]]
) -> None:
    spoilt("state = char(27) || ']0;owned' || char(7), plan = json_set(plan, '$.kind', char(27))")
    [shown] = store.listed().unreadable
    assert str(shown).isprintable()


@pytest.mark.parametrize("name", ["../x", "cuda:", "cuda:0/..", "", None, "CUDA:0", "cuda:99999"])
def test_a_text_of_the_table_that_names_no_device_names_no_file(name: object) -> None:
    assert not is_device_name(name)
    assert all(map(is_device_name, ("cpu", "auto", "cuda:0", "mps")))


def test_a_job_reads_the_same_after_the_round_trip_through_its_row(store: JobStore) -> None:
    plan = video_plan().model_copy(update={"seed": 2**63})
    job = store.submit(video_request(), plan, None, 2)
    assert store.get(job.id).plan == plan
    assert json.loads(store.database.read("SELECT plan FROM jobs")[0]["plan"])["seed"] == 2**63
