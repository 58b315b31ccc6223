"""Jobs looked back on: found again, followed, kept and deleted."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.job_table import Clock, caption_plan, video_plan, video_request
from wan_mcp.errors import BadRequest, UnknownJob, UnreadableRow
from wan_mcp.jobs.database import ADDED_COLUMNS, MIGRATIONS, Database
from wan_mcp.jobs.history import JobHistory
from wan_mcp.jobs.rows import JobListing
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.turns import Asker
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import CaptionRequest

ROWS = 5_000
OLD_INSERT = (
    "INSERT INTO jobs (id, request_id, request, state, plan, created_at) VALUES (?, NULL, '{}', 'queued', ?, 1.0)"
)
"""How 0.1.0 queues a job."""


@pytest.fixture
def history(database: Database) -> JobHistory:
    return JobHistory(database)


def submit(store: JobStore, prompt: str = "a red circle", source: str | None = None, client: str = "") -> Job:
    plan = video_plan(prompt)
    if source is not None:
        plan = plan.model_copy(update={"image": InputImage(sha256="", file="", width=8, height=8, source=source)})
    return store.submit(video_request(prompt), plan, None, 10 * ROWS, asker=Asker(client))


def ended(store: JobStore, job: Job, state: JobState = JobState.SUCCEEDED, caption: str | None = None) -> Job:
    claimed = store.claim("cpu")
    assert claimed is not None
    assert claimed.id == job.id
    store.finish(claimed, state, caption=caption)
    return store.get(job.id)


def caption(store: JobStore, text: str) -> Job:
    job = store.submit(CaptionRequest(image="x"), caption_plan("blip"), None, 9)
    return ended(store, job, caption=text)


def ids(found: JobListing) -> list[str]:
    return [job.id for job in found.jobs]


# Finding.


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("fox", ["fox"]),
        ("SNOW fox", ["fox"]),
        ("fox snow", ["fox"]),
        ("straße", ["street"]),
        ("STRASSE", ["street"]),
        ("äpfel", ["apples"]),
        ("A\N{COMBINING DIAERESIS}PFEL", ["apples"]),
        ("100%", ["percent"]),
        ("%", ["percent"]),
        ("_", ["underscore"]),
        ("ake_c", ["underscore"]),
        ("'; DROP TABLE jobs", []),
        ("fox apples", []),
        ("", ["underscore", "percent", "apples", "street", "fox"]),
        ("   ", ["underscore", "percent", "apples", "street", "fox"]),
    ],
)
def test_words_of_prompts_find_jobs_in_any_order_and_spelling(
    store: JobStore, history: JobHistory, query: str, found: list[str]
) -> None:
    names = {}
    for name, prompt in {
        "fox": "A red fox in the Snow",
        "street": "eine Straße bei Nacht",
        "apples": "Äpfel auf einem Tisch",
        "percent": "100% wool",
        "underscore": "snake_case",
    }.items():
        names[submit(store, prompt).id] = name
    assert [names[job_id] for job_id in ids(history.find(query))] == found


def test_captions_are_found_by_their_words_and_all_jobs_by_model_and_id(store: JobStore, history: JobHistory) -> None:
    wanted = caption(store, "A Cat on a mat")
    other = caption(store, "a dog")
    video = submit(store)
    assert ids(history.find("cat mat")) == [wanted.id]
    assert ids(history.find("BLIP")) == [other.id, wanted.id]
    assert ids(history.find(video.id)) == ids(history.find(video.id[:12].upper())) == [video.id]


def test_jobs_are_found_by_kind_model_state_and_mark(store: JobStore, history: JobHistory) -> None:
    captioned = caption(store, "a cat")
    video = submit(store)
    history.keep(video.id, True)
    assert ids(history.find(kind=Kind.CAPTION)) == ids(history.find(model="blip")) == [captioned.id]
    assert ids(history.find(states=[JobState.SUCCEEDED])) == ids(history.find(kept=False)) == [captioned.id]
    assert ids(history.find(states=[JobState.QUEUED, JobState.FAILED])) == ids(history.find(kept=True)) == [video.id]
    assert ids(history.find(kind=Kind.IMAGE)) == []


def test_jobs_are_found_by_the_time_at_which_they_were_submitted(
    store: JobStore, history: JobHistory, clock: Clock
) -> None:
    made = []
    for clock.now in (1_000.0, 2_000.0, 3_000.0):
        made.append(submit(store))
    first, second, third = made
    assert ids(history.find(since=second.created_at)) == [third.id, second.id], "that moment is within"
    assert ids(history.find(until=second.created_at)) == [first.id], "that moment is not"
    assert ids(history.find(since=second.created_at, until=third.created_at)) == [second.id]
    assert ids(history.find(since=third.created_at + 1)) == []


def test_pages_follow_each_other_even_when_their_last_job_was_deleted(store: JobStore, history: JobHistory) -> None:
    made = [ended(store, submit(store, f"number {n}")).id for n in range(7)]
    first = history.find(limit=3)
    assert ids(first) == made[:3:-1]
    assert first.before == made[4]
    history.delete(made[4])
    second = history.find(before=first.before, limit=3)
    assert ids(second) == made[3:0:-1]
    last = history.find(before=second.before, limit=3)
    assert (ids(last), last.before) == ([made[0]], None)
    with pytest.raises(UnknownJob, match="before"):
        history.find(before="nothing")


def test_rows_that_cannot_be_understood_cost_no_search(store: JobStore, history: JobHistory) -> None:
    fox, spoilt = submit(store, "a fox"), submit(store, "a fox too")
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET plan = '{not json' WHERE id = ?", (spoilt.id,))
    assert ids(history.find("fox")) == ids(history.find(kind=Kind.VIDEO)) == [fox.id]
    assert [each.id for each in history.find().unreadable] == [spoilt.id]


def test_thousands_of_jobs_are_searched_by_the_table_itself(store: JobStore, history: JobHistory) -> None:
    rows = [(f"{n:020d}", video_plan(f"a red circle, number {n}").model_dump_json()) for n in range(ROWS)]
    with store.database.write() as connection:
        connection.executemany(OLD_INSERT, rows)
    assert ids(history.find("CIRCLE number 17 red", limit=1000))[-1] == rows[17][0]
    assert len(ids(history.find(kind=Kind.VIDEO, model="wan-mini", limit=20))) == 20
    assert ids(history.find("nowhere to be found")) == []


# Following.


def test_who_follows_sees_each_change_once_and_in_its_latest_state(store: JobStore, history: JobHistory) -> None:
    before = submit(store, "before")
    start = history.cursor()
    first, second = ended(store, before), submit(store, "second", client="a client")
    seen = history.changed_since(start)
    assert (seen.jobs.jobs, seen.deleted, seen.more) == ([first, second], [], False)
    assert history.changed_since(seen.cursor).jobs.jobs == []
    history.delete(first.id)
    after = history.changed_since(seen.cursor)
    assert (after.jobs.jobs, after.deleted) == ([], [first.id])
    assert history.changed_since(after.cursor).cursor == after.cursor == history.cursor()


def test_many_changes_come_in_pages(store: JobStore, history: JobHistory) -> None:
    made = [submit(store, f"number {n}").id for n in range(5)]
    seen: list[str] = []
    changes = history.changed_since(0, limit=2)
    while True:
        seen += ids(changes.jobs)
        if not changes.more:
            break
        changes = history.changed_since(changes.cursor, limit=2)
    assert seen == made


def test_who_follows_is_told_when_the_table_is_another(history: JobHistory, store: JobStore) -> None:
    submit(store)
    changes = history.changed_since(1_000_000)
    assert changes.restarted
    assert changes.cursor == history.cursor()


# Keeping and deleting.


def test_a_kept_job_is_not_deleted_until_it_is_kept_no_longer(store: JobStore, history: JobHistory) -> None:
    job = ended(store, submit(store))
    assert history.keep(job.id, True).kept
    with pytest.raises(BadRequest, match="is kept"):
        history.delete(job.id)
    assert not history.keep(job.id, False).kept
    assert history.delete(job.id) == job
    for act in (history.delete, lambda job_id: history.keep(job_id, True), store.get):
        with pytest.raises(UnknownJob):
            act(job.id)


def test_a_job_that_has_not_ended_is_not_deleted(store: JobStore, history: JobHistory) -> None:
    job = submit(store)
    with pytest.raises(BadRequest, match="queued; stop it"):
        history.delete(job.id)
    store.claim("cpu")
    with pytest.raises(BadRequest, match="running; stop it"):
        history.delete(job.id)
    assert store.get(job.id).state is JobState.RUNNING


@pytest.mark.parametrize("source", ["wan://videos/{}-0.mp4", "wan://images/{}-1.png", "/home/ada/wan/media/{}-0.png"])
def test_a_job_stays_while_another_is_about_to_use_its_result(
    store: JobStore, history: JobHistory, source: str
) -> None:
    job = ended(store, submit(store))
    user = submit(store, "it spins", source.format(job.id))
    with pytest.raises(BadRequest, match=f"input of job {user.id}"):
        history.delete(job.id)
    store.cancel(user.id)
    assert history.delete(job.id) == job


def test_an_unreadable_job_is_neither_kept_nor_deleted(store: JobStore, history: JobHistory) -> None:
    job = submit(store)
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET state = 'dreaming' WHERE id = ?", (job.id,))
    for act in (history.delete, lambda job_id: history.keep(job_id, True)):
        with pytest.raises(UnreadableRow):
            act(job.id)
    assert [each.id for each in history.find().unreadable] == [job.id]
    assert not store.database.read("SELECT kept FROM jobs")[0]["kept"]


def test_files_that_are_left_are_known_until_they_are_removed(store: JobStore, history: JobHistory) -> None:
    job = ended(store, submit(store))
    history.delete(job.id)
    assert history.with_files_left() == [job.id]
    history.note_files_removed(job.id)
    assert history.with_files_left() == []


# Homes of older versions.


def old_table(file: Path) -> None:
    """Make a table as the last version without these columns left it."""
    with closing(sqlite3.connect(file)) as table:
        for statement in ";".join(MIGRATIONS).split(";"):
            table.execute(statement)
        table.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        for name, column, declaration in ADDED_COLUMNS:
            if column not in ("client", "owner", "kept", "parent"):
                table.execute(f"ALTER TABLE {name} ADD COLUMN {column} {declaration}")
        table.execute(OLD_INSERT, ("old" + "0" * 17, video_plan("an old fox").model_dump_json()))
        table.commit()


def test_jobs_of_an_older_version_are_found_followed_kept_and_deleted(tmp_path: Path) -> None:
    old_table(tmp_path / "jobs.db")
    with closing(Database(tmp_path / "jobs.db")) as database:
        history, store = JobHistory(database), JobStore(database)
        [job] = history.find("old fox").jobs
        assert (job.client, job.owner, job.kept, job.parent) == ("", "", False, "")
        start = history.cursor()
        history.keep(job.id, True)
        assert history.changed_since(start).jobs.jobs == [store.get(job.id)]
        history.keep(job.id, False)
        history.delete(ended(store, job).id)
        assert history.changed_since(start).deleted == [job.id]


def test_an_older_version_at_the_same_time_is_followed_and_keeps_working(tmp_path: Path) -> None:
    old_table(tmp_path / "jobs.db")
    with closing(sqlite3.connect(tmp_path / "jobs.db", isolation_level=None)) as old:
        with closing(Database(tmp_path / "jobs.db")) as database:
            history = JobHistory(database)
            submit(JobStore(database), client="new")
            start = history.cursor()
            old.execute(OLD_INSERT, ("1" * 20, video_plan("from the old front").model_dump_json()))
            old.execute("UPDATE jobs SET state = 'cancelled' WHERE id = ?", ("1" * 20,))
            [job] = history.changed_since(start).jobs.jobs
            assert (job.plan.prompt_asked, job.state, job.client) == ("from the old front", "cancelled", "")
            old.execute("DELETE FROM jobs WHERE id = ?", ("1" * 20,))
            assert history.changed_since(start).deleted == ["1" * 20]
            assert history.with_files_left() == []  # an older version removes rows, and no files with them
        assert old.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)


def test_an_owners_jobs_are_found_among_those_of_all_others(store: JobStore, history: JobHistory) -> None:
    mine = store.submit(video_request(), video_plan(), None, 999, asker=Asker("Space", "space:a"))
    for _ in range(120):
        store.submit(video_request(), video_plan(), None, 999, asker=Asker("Space", "space:b"))
    assert ids(history.find(owner="space:a")) == [mine.id]
    assert len(history.find(owner="space:b", limit=500).jobs) == 120
    assert history.find(owner="").jobs == []
