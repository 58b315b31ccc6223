"""Jobs that are deleted by age or amount: the right ones, whoever does it at once, and whatever the clock says."""

from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.from_thread
import pytest

from tests.fixtures.job_table import video_plan
from tests.support.ended_jobs import MB, NOW, Home
from tests.support.patience import PATIENCE_S
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.service import retention as module
from wan_mcp.service.retention import DAY_S, Retention, SteadyClock, expires_at, retain
from wan_mcp.service.service import serving
from wan_mcp.settings import Settings


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.database.close()


def test_by_default_nothing_is_ever_deleted(home: Home) -> None:
    home.job(10_000, mb=1000)
    assert home.expired() == []
    assert (Settings().keep_days, Settings().keep_gb) == (0, 0)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED])
def test_jobs_that_ended_too_long_ago_are_deleted_with_their_files(home: Home, state: JobState) -> None:
    old = home.job(8, mb=1, state=state)
    young = home.job(6, mb=1, state=state)
    assert home.expired(days=7) == [old]
    assert [job.id for job in home.retention.delete(home.retention.expired(7, 0, now=NOW))] == [old]
    assert home.ids() == {young}
    assert [job_id for job_id, _ in home.media.result_files()] == [young]


def test_kept_jobs_and_jobs_at_work_stay_however_old_and_large(home: Home) -> None:
    kept = home.job(100, mb=5)
    home.history.keep(kept, kept=True)
    running = home.job(100, mb=5, state=JobState.RUNNING)
    queued = home.job(100, state=JobState.QUEUED)
    last = home.job(1)
    assert home.expired(days=7) == home.expired(gb=0.001) == []
    assert home.ids() == {kept, running, queued, last}


def test_a_result_that_a_queued_job_needs_stays_until_that_has_ended(home: Home) -> None:
    source = home.job(100, mb=1)
    file = f"media/images/{source}-0.png"
    image = InputImage(source=f"wan://images/{source}-0.png", file=file, sha256="0" * 64, width=8, height=8)
    user = home.job(0, state=JobState.QUEUED, plan=video_plan().model_copy(update={"image": image}))
    assert home.retention.delete(home.retention.expired(7, 0, now=NOW)) == []
    home.store.cancel(user)
    assert [job.id for job in home.retention.delete(home.retention.expired(7, 0, now=NOW))] == [source]


def test_a_job_that_is_kept_after_it_was_found_stays(home: Home) -> None:
    old = home.job(8)
    found = home.retention.expired(7, 0, now=NOW)
    home.history.keep(old, kept=True)
    assert home.retention.delete(found) == []
    assert home.ids() == {old}


def test_beyond_an_amount_the_oldest_results_go_and_no_more_than_needed(home: Home) -> None:
    first, second, third = (home.job(days, mb=10) for days in (3, 2, 1))
    without_files = home.job(5)
    assert home.expired(gb=0.030) == []
    assert home.expired(gb=0.029) == [first]
    assert home.expired(gb=0.015) == [first, second]
    assert home.expired(gb=0.001) == [first, second]  # the newest stays: somebody has just asked for it
    assert third
    assert without_files in home.ids()


def test_conversions_and_small_pictures_count_as_well(home: Home) -> None:
    first, _ = home.job(2, mb=10), home.job(1, mb=10)
    (home.media.home / "media" / "videos" / f"{first}-0.gif").write_bytes(b"x" * 20 * MB)
    assert home.media.result_bytes()[first] == 30 * MB
    assert home.expired(gb=0.039) == [first]


def test_kept_results_use_up_the_amount_but_stay(home: Home) -> None:
    kept, second, third = (home.job(days, mb=10) for days in (3, 2, 1))
    home.history.keep(kept, kept=True)
    assert home.expired(gb=0.025) == [second]
    assert third in home.ids()


def test_what_has_just_ended_is_read_before_it_goes(home: Home) -> None:
    home.job(0.0001, mb=10)
    home.job(0, mb=10)
    assert home.expired(gb=0.001, fresh_s=60) == []
    assert len(home.expired(gb=0.001, fresh_s=5)) == 1


def test_age_and_amount_together_count_what_age_frees(home: Home) -> None:
    old, second, third = (home.job(days, mb=10) for days in (30, 2, 1))
    assert home.expired(days=7, gb=0.020) == [old]
    assert home.expired(days=7, gb=0.015) == [old, second]
    assert third in home.ids()


def test_a_row_that_cannot_be_read_stays(home: Home) -> None:
    bad, good = home.job(100), home.job(100)
    with home.database.write() as connection:
        connection.execute("UPDATE jobs SET plan = 'nonsense' WHERE id = ?", (bad,))
    assert home.expired(days=7) == [good]


def test_two_processes_may_delete_the_same_jobs_at_once(home: Home) -> None:
    jobs = {home.job(8, mb=1) for _ in range(5)}
    found = home.retention.expired(7, 0, now=NOW)
    other = Home(home.media.home)
    assert {job.id for job in home.retention.delete(found[:3])} | {
        job.id for job in other.retention.delete(found)
    } == jobs
    assert home.ids() == set()
    other.database.close()


def test_a_deletion_that_was_cut_short_is_finished_later(home: Home) -> None:
    old = home.job(8, mb=1)
    home.history.delete(old)  # and then the process was killed
    assert [job_id for job_id, _ in home.media.result_files()] == [old]
    home.job(9, mb=1)
    home.retention.delete(home.retention.expired(7, 0, now=NOW))
    assert list(home.media.result_files()) == []


@pytest.mark.parametrize("foreign", ["notes.txt", "x-0.mp4", f"{'a' * 20}-0", f".{'a' * 20}-0.mp4"])
def test_foreign_files_in_the_folder_are_no_results(home: Home, foreign: str) -> None:
    home.job(1, mb=1)
    (home.media.home / "media" / "videos" / foreign).write_bytes(b"x" * MB)
    assert sum(home.media.result_bytes().values()) == MB


def test_it_is_known_when_a_job_goes(home: Home) -> None:
    job = home.store.get(home.job(1))
    settings = Settings(keep_days=7)
    assert expires_at(job, settings) == NOW + 6 * DAY_S
    assert expires_at(job, Settings()) is None
    assert expires_at(job, Settings(keep_gb=1)) is None
    assert expires_at(job.model_copy(update={"kept": True}), settings) is None
    assert expires_at(home.store.get(home.job(1, state=JobState.QUEUED)), settings) is None
    late = job.model_copy(update={"finished_at": 253_402_300_000.0})
    assert expires_at(late, settings) is None  # no calendar has that day


@pytest.mark.parametrize("days", ["-1", "nan", "inf", "99999"])
def test_a_senseless_age_is_refused(days: str) -> None:
    with pytest.raises(ValueError, match="keep_days"):
        Settings(keep_days=days)


class Clocks:
    """The clock of the day, and one that counts seconds."""

    def __init__(self) -> None:
        self.day, self.counted = NOW, 0.0

    def go_on(self, seconds: float, *, step: float = 0.0) -> None:
        self.counted += seconds
        self.day += seconds + step


def test_a_clock_that_was_set_is_not_believed_for_a_while() -> None:
    clocks = Clocks()
    clock = SteadyClock(lambda: clocks.day, lambda: clocks.counted)
    clocks.go_on(700)
    assert clock.steady_s() == 700
    for step in (70 * 365 * DAY_S, -70 * 365 * DAY_S, 3600):
        clocks.go_on(30, step=step)
        assert clock.steady_s() == 0
        clocks.go_on(100)
        assert clock.steady_s() == 100
    for _ in range(100):  # a clock that is corrected a little at a time
        clocks.go_on(30, step=5)
        seconds = clock.steady_s()
    assert seconds == 3100


@pytest.mark.anyio
@pytest.mark.parametrize("steady", [True, False])
async def test_a_front_deletes_by_age_only_while_the_clock_is_believed(
    home: Home, monkeypatch: pytest.MonkeyPatch, steady: bool
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    monkeypatch.setattr(module, "TURN_S", 0.01)
    monkeypatch.setattr(SteadyClock, "steady_s", lambda self: 1000.0 if steady else 0.0)
    old, turns, enough = home.job(365, mb=1), [0], anyio.Event()  # years before now, by any clock

    async def retention() -> Retention:
        return home.retention

    def works() -> None:
        turns[0] += 1
        if turns[0] == 3:
            enough.set()

    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(retain, retention, Settings(keep_days=7), works)
            await enough.wait()
            tasks.cancel_scope.cancel()
    assert (old in home.ids()) is not steady


@pytest.mark.anyio
async def test_a_server_deletes_what_the_settings_do_not_keep(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_S", 0.0)
    short = settings.model_copy(update={"keep_days": 0.5 / DAY_S})
    with anyio.fail_after(PATIENCE_S):
        async with serving(short) as service:
            cursor = await service.cursor()
            kept, job = [
                (await service.submit(ImageRequest(prompt=prompt, steps=2, seed=1))).job.id for prompt in ("a", "b")
            ]
            await service.keep(kept)
            deleted: list[str] = []
            while job not in deleted:
                changes = await service.changed_since(cursor, 60)
                cursor, deleted = changes.cursor, [*deleted, *changes.deleted]
            assert (await service.view(kept)).job.kept
    assert deleted == [job]


@pytest.mark.anyio
async def test_a_fault_of_it_stops_nothing_else(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = anyio.Event()

    def fail(*_: object, **__: object) -> None:
        anyio.from_thread.run_sync(tried.set)
        raise OSError("the disk is gone")

    monkeypatch.setattr(module, "FIRST_S", 0.0)
    monkeypatch.setattr(module, "TURN_S", 0.01)
    monkeypatch.setattr(Retention, "expired", fail)
    with anyio.fail_after(PATIENCE_S):
        async with serving(settings.model_copy(update={"keep_gb": 1})) as service:
            first = (await service.submit(ImageRequest(prompt="a star", steps=2))).job.id
            await tried.wait()
            second = (await service.submit(ImageRequest(prompt="a star", steps=2))).job.id
            for job_id in (first, second):
                assert (await service.wait(job_id, PATIENCE_S)).job.state is JobState.SUCCEEDED
            assert service.trouble is None
