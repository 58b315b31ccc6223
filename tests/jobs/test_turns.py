"""Clients take turns: one with many jobs holds up nobody else for long."""

import re
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.errors import BadRequest, QueueFull, UnknownJob
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.turns import Asker, move_before
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.queue import Queue
from wan_mcp.settings import Settings

CLIENTS = ("Claude", "Cursor", "page")


def submit(store: JobStore, client: str, owner: str = "", limit: int = 10_000) -> Job:
    return store.submit(video_request(), video_plan(), None, limit, asker=Asker(client, owner))


def serve(store: JobStore) -> Job:
    job = store.claim("cpu")
    assert job is not None
    store.finish(job, JobState.SUCCEEDED)
    return job


def line(store: JobStore) -> list[str]:
    return [job.id for job in store.unfinished()]


def test_one_job_does_not_wait_for_all_of_anothers_hundred(store: JobStore) -> None:
    many = [submit(store, "Claude").id for _ in range(100)]
    running = store.claim("cpu")
    one = submit(store, "Cursor").id
    assert line(store) == [many[0], one, *many[1:]]
    assert running is not None
    store.finish(running, JobState.SUCCEEDED)
    assert serve(store).id == one
    two = submit(store, "Cursor").id
    assert line(store)[:3] == [many[1], two, many[2]], "a turn was served, and the next one comes after it"


def test_the_jobs_of_one_client_are_served_in_the_order_in_which_they_came(store: JobStore) -> None:
    jobs = [submit(store, "Claude").id for _ in range(5)]
    assert [serve(store).id for _ in range(5)] == jobs


def test_two_who_are_called_the_same_are_told_apart_by_their_tokens(store: JobStore) -> None:
    mine = [submit(store, "Claude", "me").id for _ in range(3)]
    other = submit(store, "Claude", "you").id
    assert line(store) == [mine[0], other, *mine[1:]]


def test_jobs_that_were_cancelled_before_they_began_cost_nobody_a_turn(store: JobStore) -> None:
    for job in [submit(store, "Claude") for _ in range(20)]:
        store.cancel(job.id)
    jobs = [submit(store, "Cursor").id for _ in range(3)]
    late = submit(store, "Claude").id
    assert line(store) == [jobs[0], late, *jobs[1:]]


def test_a_job_keeps_its_place_when_its_engine_dies_or_gives_it_back(store: JobStore) -> None:
    many = [submit(store, "Claude").id for _ in range(3)]
    one = submit(store, "Cursor").id
    store.claim("cpu")
    store.requeue_orphans("cpu")
    assert line(store) == [many[0], one, *many[1:]]
    job = store.claim("cpu")
    assert job is not None
    store.release(job)
    assert line(store) == [many[0], one, *many[1:]]


@settings(deadline=None, max_examples=15)
@given(data=st.data(), owners=st.lists(st.sampled_from(["", "space:a"]), min_size=2, max_size=8))
def test_an_owner_orders_its_own_jobs_and_moves_nobody_elses(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, owners: list[str]
) -> None:
    database = Database(tmp_path_factory.mktemp("turns") / "jobs.db")
    store = JobStore(database)
    whose = {submit(store, data.draw(st.sampled_from(CLIENTS)), owner).id: owner for owner in owners}
    for _ in range(3):
        before = line(store)
        moved = data.draw(st.sampled_from(before))
        own = [job for job in before if whose[job] == whose[moved]]
        target = data.draw(st.sampled_from([*own, None]))
        move_before(database, moved, target, whose[moved])
        wanted = own if moved == target else [job for job in own if job != moved]
        if moved != target:
            wanted.insert(len(wanted) if target is None else wanted.index(target), moved)
        after = line(store)
        assert [job for job in after if whose[job] == whose[moved]] == wanted
        assert [job if whose[job] != whose[moved] else None for job in after] == [
            job if whose[job] != whose[moved] else None for job in before
        ]
    assert [serve(store).id for _ in whose] == after
    database.close()


def test_only_an_owners_own_waiting_jobs_are_moved(store: JobStore) -> None:
    running, mine, other = submit(store, "page"), submit(store, "page"), submit(store, "page", "space:a")
    store.claim("cpu")
    for moved, before, words in (
        (running.id, None, "is running; only a waiting job can be moved"),
        (mine.id, running.id, "is running"),
        (other.id, None, "another owner's"),
        (mine.id, other.id, "another owner's"),
    ):
        with pytest.raises(BadRequest, match=words):
            move_before(store.database, moved, before, "")
    with pytest.raises(UnknownJob):
        move_before(store.database, "nothing", None, "")


@settings(deadline=None, max_examples=40)
@given(steps=st.lists(st.sampled_from([*CLIENTS, "serve", "serve"]), max_size=60))
def test_every_client_passes_a_job_at_most_twice_more_than_its_own_jobs_do(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str]
) -> None:
    database = Database(tmp_path_factory.mktemp("turns") / "jobs.db")
    store = JobStore(database)
    unfinished: dict[str, str] = {}
    bounds: dict[str, int] = {}
    passed: dict[str, Counter[str]] = {}
    for step in [*steps, *["serve"] * len(steps)]:
        if step != "serve":
            own = sum(client == step for client in unfinished.values())
            job = submit(store, step)
            unfinished[job.id], bounds[job.id], passed[job.id] = step, own + 2, Counter()
        elif unfinished:
            served = serve(store)
            client = unfinished.pop(served.id)
            for waiting, whose in unfinished.items():
                passed[waiting][client] += whose != client
            assert all(count <= bounds[served.id] for count in passed[served.id].values())
    assert not unfinished
    database.close()


def test_a_full_queue_has_a_place_for_a_client_that_has_none_in_it(store: JobStore) -> None:
    for _ in range(2):
        submit(store, "Claude", limit=2)
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        submit(store, "Claude", limit=2)
    submit(store, "Cursor", limit=2)
    with pytest.raises(QueueFull, match="3 jobs are waiting"):
        submit(store, "Cursor", limit=2)
    submit(store, "page", limit=2)
    with pytest.raises(QueueFull, match="4 jobs are waiting"):
        submit(store, "one name after the other", limit=2)


def test_the_position_and_the_outlook_are_those_of_this_order(tmp_path: Path) -> None:
    database = Database(tmp_path / "jobs.db")
    store = JobStore(database)
    queue = Queue(store, Supervisor(Settings(home=tmp_path), store))
    many = [submit(store, "Claude") for _ in range(5)]
    assert [queue.outlook(video_plan(), Asker(client))[0] for client in ("Claude", "Cursor")] == [5, 1]
    one = submit(store, "Cursor")
    assert [queue.view(job.id).queue_position for job in (many[0], one, *many[1:])] == [1, 2, 3, 4, 5, 6]
    database.close()


def test_jobs_of_a_home_without_turns_go_first_in_their_order(tmp_path: Path) -> None:
    file = tmp_path / "jobs.db"
    database = Database(file)
    before = [submit(JobStore(database), "Claude").id for _ in range(2)]
    with database.write() as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'index'").fetchall():
            if re.match("jobs_in_line|turns_", name):
                connection.execute(f"DROP INDEX {name}")
        connection.execute("ALTER TABLE jobs DROP COLUMN turn")
    database.close()
    database = Database(file)
    after = submit(JobStore(database), "Cursor").id
    assert line(JobStore(database)) == [*before, after]
    database.close()
