"""A damaged job table is set aside whole, and what can be read of it goes on."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.fixtures.job_table import spoil, video_plan, video_request
from wan_mcp.errors import HomeUnusable, UnknownJob
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.device_lock import engine_lock
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.repair import defects, repair_table, unreadable_rows
from wan_mcp.settings import Settings

PAGE = 4096
JOBS = 60  # enough for many pages


def filled(file: Path, count: int = JOBS) -> list[Job]:
    """A job table of one file, with jobs in it; the first one has succeeded, the second runs."""
    database = Database(file)
    store = JobStore(database)
    for number in range(count):
        prompt = f"number {number} " + "x" * 200
        store.submit(video_request(prompt), video_plan(prompt), f"request {number}", count)
    first = store.claim("cpu")
    assert first is not None
    store.finish(first, JobState.SUCCEEDED)
    store.claim("cpu")
    jobs = store.newest(limit=count)
    database.close()
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return jobs


def overwrite(file: Path, *pages: int) -> None:
    """Overwrite pages of a database, counted from 1."""
    with file.open("rb+") as raw:
        for page in pages:
            raw.seek((page - 1) * PAGE)
            raw.write(b"\xa5" * PAGE)


def leaves(file: Path) -> list[int]:
    """The pages on which the jobs themselves lie."""
    data = file.read_bytes()
    return [
        number
        for number in range(2, len(data) // PAGE + 1)
        if data[(number - 1) * PAGE] == 0x0D and b"number " in data[(number - 1) * PAGE : number * PAGE]
    ]


def jobs_of(file: Path) -> list[Job]:
    database = Database(file)
    try:
        return JobStore(database).newest(limit=JOBS)
    finally:
        database.close()


def set_aside(file: Path) -> list[Path]:
    return [found for found in file.parent.glob("jobs.db.damaged-*") if not found.name.endswith(("-wal", "-shm"))]


def test_a_fine_table_is_not_touched(settings: Settings) -> None:
    jobs = filled(settings.database, 3)
    before = settings.database.read_bytes()
    assert defects(settings.database) is None
    assert "nothing to repair" in repair_table(settings)
    assert settings.database.read_bytes() == before
    assert jobs_of(settings.database) == jobs
    assert set_aside(settings.database) == []


def test_no_table_is_nothing_to_repair(settings: Settings) -> None:
    assert "nothing to repair" in repair_table(settings)


def test_a_damaged_page_costs_only_the_jobs_on_it(settings: Settings) -> None:
    jobs = filled(settings.database)
    pages = leaves(settings.database)
    assert len(pages) > 4
    overwrite(settings.database, pages[1], pages[3])  # what lies between two damaged pages is saved as well
    damaged = settings.database.read_bytes()
    assert defects(settings.database) is not None

    told = repair_table(settings)

    saved = jobs_of(settings.database)
    assert defects(settings.database) is None
    assert JOBS // 2 < len(saved) < JOBS
    assert f"{len(saved)} of its jobs" in told
    assert [job for job in jobs if job in saved] == saved, "jobs changed, or lost their order"
    [aside] = set_aside(settings.database)
    assert str(aside) in told
    assert aside.read_bytes() == damaged


def test_saved_jobs_go_on_where_they_were(settings: Settings) -> None:
    filled(settings.database)
    overwrite(settings.database, leaves(settings.database)[-1])
    repair_table(settings)
    database = Database(settings.database)
    try:
        store = JobStore(database)
        [buried] = store.requeue_orphans("cpu")
        assert buried.state is JobState.QUEUED
        claimed = store.claim("cpu")
        assert claimed is not None
        assert claimed.id == buried.id
        assert store.submit(video_request(), video_plan(), None, JOBS).id not in {job.id for job in store.newest()[1:]}
    finally:
        database.close()


def test_a_job_that_holds_nonsense_is_left_behind(settings: Settings) -> None:
    jobs = filled(settings.database)
    with closing(sqlite3.connect(settings.database)) as raw:
        raw.execute('UPDATE jobs SET plan = \'{"kind": "vid\' WHERE id = ?', (jobs[30].id,))
        raw.commit()
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    overwrite(settings.database, leaves(settings.database)[0])
    repair_table(settings)
    assert jobs[30].id not in {job.id for job in jobs_of(settings.database)}
    database = Database(settings.database)
    try:
        with pytest.raises(UnknownJob):
            JobStore(database).get(jobs[30].id)
    finally:
        database.close()


def spoil_rows(file: Path, jobs: list[Job], *assignments: str) -> None:
    """Change the newest jobs of a table, one with each assignment."""
    with closing(sqlite3.connect(file)) as raw:
        for job, assignment in zip(jobs, assignments, strict=False):
            raw.execute(f"UPDATE jobs SET {assignment} WHERE id = ?", (job.id,))
        raw.commit()


def test_rows_that_cannot_be_understood_are_mended_or_kept_aside(settings: Settings) -> None:
    jobs = filled(settings.database, 12)
    spoilt = (
        "state = 'paused'",
        "notes = 'x'",
        "created_at = 1e300",
        "attempt = -1",
        "artifacts = 'x', error = '{'",
        'progress = \'{"stage": "dreaming"}\'',
        "plan = json_set(plan, '$.task', 'text-to-3d')",
        "plan = ''",
    )
    spoil_rows(settings.database, jobs, *spoilt)
    database = Database(settings.database)
    assert [job.id for job in unreadable_rows(database)] == [job.id for job in reversed(jobs[: len(spoilt)])]
    database.close()

    told = repair_table(settings)

    assert "6 jobs of the job table were mended, and 2 whose plan cannot be understood were removed" in told
    [kept] = settings.home.glob("jobs.db.unreadable-*.jsonl")
    assert str(kept) in told
    held = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert [row["id"] for row in held] == [job.id for job in reversed(jobs[: len(spoilt)])]
    assert "text-to-3d" in held[1]["plan"]
    after = {job.id: job for job in jobs_of(settings.database)}
    assert set(after) == {job.id for job in jobs} - {jobs[6].id, jobs[7].id}
    paused = after[jobs[0].id]
    assert paused.state is JobState.FAILED
    assert paused.error is not None and "'paused'" in paused.error.message
    assert {after[job.id].state for job in jobs[1:6]} == {JobState.QUEUED}
    assert [after[job.id] for job in jobs[8:]] == jobs[8:], "it was not spoilt"
    assert "nothing to repair" in repair_table(settings)


def test_no_row_is_mended_while_an_engine_lives(settings: Settings) -> None:
    spoil_rows(settings.database, filled(settings.database, 3), "notes = 'x'")
    with engine_lock(settings.home, "cpu"), pytest.raises(HomeUnusable, match="an engine is running"):
        repair_table(settings)


@pytest.mark.parametrize("size", [0, 10, PAGE, 100_000])
def test_what_is_no_database_is_set_aside_and_an_empty_table_made(settings: Settings, size: int) -> None:
    settings.home.mkdir(parents=True)
    settings.database.write_bytes(b"\x00" * size if size < PAGE else b"x" * size)
    assert "0 of its jobs" in repair_table(settings)
    assert jobs_of(settings.database) == []
    assert len(set_aside(settings.database)) == 1


def test_a_second_repair_keeps_what_the_first_has_set_aside(settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    for _ in range(2):
        spoil(settings.database)
        for suffix in ("-wal", "-shm"):
            settings.database.with_name(f"jobs.db{suffix}").unlink(missing_ok=True)
        repair_table(settings)
    assert len(set_aside(settings.database)) == 2


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_nothing_is_repaired_while_an_engine_lives_on_any_device(settings: Settings, device: str) -> None:
    settings.home.mkdir(parents=True)
    spoil(settings.database)
    with engine_lock(settings.home, device), pytest.raises(HomeUnusable, match="an engine is running"):
        repair_table(settings)
    assert set_aside(settings.database) == []
    assert "0 of its jobs" in repair_table(settings)


@pytest.mark.parametrize("setting", ["cuda:1", "cuda:0,1", "auto"])
def test_locks_that_engines_left_behind_hinder_no_repair(settings: Settings, setting: str) -> None:
    settings.home.mkdir(parents=True)
    spoil(settings.database)
    for device in ("cuda:1", "auto"):
        engine_lock(settings.home, device).acquire().lock.release()
    assert "0 of its jobs" in repair_table(settings.model_copy(update={"device": setting}))
