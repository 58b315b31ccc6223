"""What the table costs: as much for large pictures as for small ones, and nothing while nothing changes."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.errors import BadRequest
from wan_mcp.jobs.asked import MAX_LENGTH, shrink_requests
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.requests import VideoRequest

JOBS = 24
SMALL, LARGE = 100, 5_000_000  # bytes of a picture; what is measured does not depend on how large a large one is


def with_picture(size: int, number: int) -> VideoRequest:
    picture = f"data:image/png;base64,{number:08d}{'A' * size}"
    return video_request(f"number {number}").model_copy(update={"image": picture, "last_image": picture})


def filled(file: Path, size: int) -> Path:
    database = Database(file)
    for number in range(JOBS):
        JobStore(database).submit(with_picture(size, number), video_plan(), f"request {number}", JOBS)
    database.close()
    return file


def bytes_read_by(look: Callable[[JobStore], object], file: Path) -> int:
    """Return the bytes that a process that has just opened the table reads from its file for one look."""
    io = Path("/proc/self/io")
    if not io.exists():
        pytest.skip("this system does not count what a process reads")
    database = Database(file)
    store = JobStore(database)
    before = _read_so_far(io)
    look(store)
    spent = _read_so_far(io) - before
    database.close()
    return spent


def _read_so_far(io: Path) -> int:
    return int(io.read_text().split()[1])


def test_queued_jobs_with_large_pictures_cost_what_those_with_small_ones_cost(tmp_path: Path) -> None:
    small, large = (filled(tmp_path / f"{size}.db", size) for size in (SMALL, LARGE))
    assert abs(small.stat().st_size - large.stat().st_size) <= 2 * 4096
    for look in (
        JobStore.unfinished,
        JobStore.newest,
        lambda store: store.claim("cpu"),
        lambda store: store.submit(with_picture(SMALL, 99), video_plan(), None, JOBS),
    ):
        assert bytes_read_by(look, large) <= bytes_read_by(look, small) + 4 * 4096


def test_a_repeated_request_with_a_picture_finds_its_job_and_another_picture_does_not(store: JobStore) -> None:
    first = store.submit(with_picture(LARGE, 1), video_plan(), "r1", JOBS)
    assert store.submit(with_picture(LARGE, 1), video_plan(), "r1", JOBS).id == first.id
    for other in (with_picture(LARGE, 2), with_picture(LARGE + 1, 1), video_request("number 1")):
        with pytest.raises(BadRequest, match="of a different request"):
            store.attached(other, "r1")
    [row] = store.database.read("SELECT length(request) AS length FROM jobs")
    assert row["length"] < MAX_LENGTH


@pytest.mark.parametrize("shrunk", [False, True])
def test_a_request_with_a_picture_finds_its_job_across_an_upgrade(store: JobStore, shrunk: bool) -> None:
    first = store.submit(with_picture(LARGE, 1), video_plan(), "r1", JOBS)
    with store.database.write() as connection:  # as 0.1.0 wrote it
        connection.execute("UPDATE jobs SET request = ?", (with_picture(LARGE, 1).model_dump_json(),))
    assert not shrunk or shrink_requests(store.database) == 1
    attached = store.attached(with_picture(LARGE, 1), "r1")
    assert attached is not None and attached.id == first.id
    with pytest.raises(BadRequest):
        store.attached(with_picture(LARGE, 2), "r1")


def test_a_table_with_large_rows_of_an_older_version_becomes_small_once(tmp_path: Path) -> None:
    small, old = filled(tmp_path / "small.db", SMALL), filled(tmp_path / "old.db", SMALL)
    with sqlite3.connect(old) as raw:
        for number in range(JOBS):
            asked = with_picture(LARGE // 10, number).model_dump_json()
            raw.execute("UPDATE jobs SET request = ? WHERE request_id = ?", (asked, f"request {number}"))
    raw.close()
    assert bytes_read_by(JobStore.unfinished, old) > JOBS * LARGE // 10
    database = Database(old)
    assert shrink_requests(database) == JOBS
    assert shrink_requests(database) == 0
    database.close()
    assert bytes_read_by(lambda store: shrink_requests(store.database), old) < 20 * 4096, "looked at again"
    # The file is not written again as a whole: a row that was large may have a page to itself.
    assert bytes_read_by(JobStore.unfinished, old) <= bytes_read_by(JobStore.unfinished, small) + JOBS * 4096


def test_a_request_that_is_nonsense_is_left_as_it_is(store: JobStore) -> None:
    store.submit(video_request(), video_plan(), "r1", JOBS)
    with store.database.write() as connection:
        connection.execute("UPDATE jobs SET request = ?", ("x" * 2 * MAX_LENGTH,))
    assert shrink_requests(store.database) == 0
    assert len(store.newest()) == 1


def test_rows_are_read_again_only_after_a_commit(store: JobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    job = store.submit(video_request(), video_plan(), None, JOBS)
    reads: list[str] = []
    read = Database.read

    def counted(self: Database, sql: str, *parameters: object, **named: object) -> list[sqlite3.Row]:
        reads.extend([sql] if "FROM jobs" in sql else [])
        return read(self, sql, *parameters, **named)

    monkeypatch.setattr(Database, "read", counted)
    for _ in range(3):
        assert [each.id for each in store.unfinished()] == [store.get(job.id).id]
        assert store.has_queued()
    assert len(reads) == 2
    other = Database(store.database.file)  # another process's connection
    claimed = JobStore(other).claim("cpu")
    assert claimed == store.get(job.id)
    assert not store.has_queued()
    other.close()
