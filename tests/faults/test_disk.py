"""A disk that is full, a home that cannot be written, a job table that is damaged."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import anyio
import pytest

from tests.conftest import ending_engines, fake_engine
from tests.fixtures.faults import Connect, facts, fill, words
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


def on(disk: Path, **changes: object) -> Settings:
    """Settings with their home on a disk."""
    settings = Settings(home=disk / "home", device="cpu", engine_command=fake_engine("works"), min_free_mb=0)
    return settings.model_copy(update=changes)


async def test_a_nearly_full_disk_takes_no_new_job_and_says_how_much_is_free(
    connect: Connect, small_disk: Path
) -> None:
    async with connect(on(small_disk, min_free_mb=50)) as client:
        result = await client.call_tool("generate_video", {"prompt": "a red circle"})
        assert result.is_error
        assert re.search(r"only 4\.\d MB are free .* 50\.0 MB must stay free", words(result))
        assert not (await client.call_tool("list_resolutions", {})).is_error


async def test_a_job_on_a_full_disk_fails_with_the_reason_and_the_next_one_runs_when_there_is_room(
    connect: Connect, small_disk: Path
) -> None:
    settings = on(small_disk)
    settings.home.mkdir()
    pace = settings.home / "pace"
    pace.write_text("0", encoding="utf-8")
    with ending_engines(settings.home), anyio.fail_after(PATIENCE_S):
        async with connect(settings) as client:
            started = await client.call_tool("generate_video", {"prompt": "a red circle", "steps": 4, "wait_s": 0})
            job_id = facts(started)["job_id"]
            await until(lambda: f"job {job_id}: text-to-video" in log_of(settings))
            # The files of the table and of the engine have had their space; what the video needs is not there any more.
            fill_until_media_do_not_fit(small_disk)
            pace.unlink()
            result = await client.call_tool("get_job", {"job_id": job_id, "wait_s": PATIENCE_S})
            assert facts(result)["status"] == "failed"
            assert facts(result)["error"]["code"] == "out_of_space"
            assert "free some" in words(result)
            assert not list(settings.home.rglob("*.part"))
            assert not list(settings.home.rglob("*.mp4"))
            (small_disk / "ballast").unlink()
            result = await client.call_tool("generate_video", {"prompt": "a red circle", "wait_s": PATIENCE_S})
            assert facts(result)["status"] == "succeeded"


def fill_until_media_do_not_fit(disk: Path) -> None:
    """Leave some 60 kB: enough for the job table, too little for a video of the fake engine."""
    ballast = fill(disk)
    with ballast.open("rb+") as file:
        file.truncate(ballast.stat().st_size - 60_000)


async def test_the_end_of_a_job_is_written_when_there_is_room_again(connect: Connect, small_disk: Path) -> None:
    settings = on(small_disk)
    settings.home.mkdir()
    pace = settings.home / "pace"
    pace.write_text("0", encoding="utf-8")
    with ending_engines(settings.home), anyio.fail_after(PATIENCE_S):
        async with connect(settings) as client:
            started = await client.call_tool("generate_video", {"prompt": "a red circle", "steps": 4, "wait_s": 0})
            job_id = facts(started)["job_id"]
            await until(lambda: f"job {job_id}: text-to-video" in log_of(settings))
            ballast = fill(small_disk)
            pace.unlink()
            await until(lambda: "cannot be written yet" in log_of(settings))
            running = await client.call_tool("get_job", {"job_id": job_id, "wait_s": 0})
            assert facts(running)["status"] == "running"
            ballast.unlink()
            result = await client.call_tool("get_job", {"job_id": job_id, "wait_s": PATIENCE_S})
            assert facts(result)["error"]["code"] == "out_of_space"


def log_of(settings: Settings) -> str:
    found = []
    for log in settings.log_file.parent.rglob("*.log"):  # a living engine has a file of its own, which goes with it
        with suppress(FileNotFoundError):
            found.append(log.read_text(encoding="utf-8", errors="replace"))
    return "".join(found)


async def until(happened: Callable[[], bool]) -> None:
    """Until something has happened that can only be looked for."""
    while not happened():
        await anyio.lowlevel.checkpoint()


async def test_a_home_that_cannot_be_written_is_named_and_the_server_still_answers(
    connect: Connect, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    async with connect(Settings(home=tmp_path / "file" / "home")) as client:
        assert len((await client.list_tools()).tools) == 10
        assert not (await client.call_tool("list_resolutions", {})).is_error
        result = await client.call_tool("generate_video", {"prompt": "a red circle"})
        assert result.is_error
        assert "WAN_MCP_HOME" in words(result)


@pytest.mark.parametrize("damage", ["not a database", "overwritten pages"])
async def test_a_damaged_job_table_is_reported_with_its_repair_and_the_server_still_answers(
    connect: Connect, engine: Callable[..., Settings], damage: str
) -> None:
    settings = engine("works")
    with ending_engines(settings.home):
        async with connect(settings) as client:
            await client.call_tool("generate_video", {"prompt": "a red circle", "wait_s": PATIENCE_S})
    file = settings.database
    with closing(sqlite3.connect(file)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    if damage == "not a database":
        file.write_bytes(b"something else altogether" * 1000)
    else:
        data = file.read_bytes()
        file.write_bytes(data[:4096] + b"\xa5" * (len(data) - 4096))
    async with connect(settings) as client:
        assert not (await client.call_tool("list_resolutions", {})).is_error
        result = await client.call_tool("list_jobs", {})
        assert result.is_error
        assert "doctor --repair" in words(result)
