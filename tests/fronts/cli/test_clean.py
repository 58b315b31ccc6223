"""`wan-mcp clean`: what it would delete, that it asks, and that it deletes no more than it said."""

import io
import json
import os
import time
from pathlib import Path

import pytest

from tests.fixtures.command_line import Wan
from tests.support.ended_jobs import Home
from wan_mcp.files import atomic_file
from wan_mcp.settings import Settings

DAY_S = 86_400


@pytest.fixture
def jobs(settings: Settings) -> list[str]:
    """Three finished jobs: the first a hundred days old, the second as old and kept, the third new."""
    home = Home(settings.home, time.time())
    ids = [home.job(100, 1, prompt="an old star"), home.job(100, 1, prompt="a kept star"), home.job(1, 1)]
    home.history.keep(ids[1], kept=True)
    home.database.close()
    return ids


@pytest.fixture
def leftover(jobs: list[str], settings: Settings) -> Path:
    """An unfinished file whose writer was killed."""
    folder = settings.home / "media" / "videos" / f".x-0.mp4.{'0' * 16}.part"
    folder.mkdir()
    (folder / "content.part").write_bytes(b"x" * 5000)
    return folder


def files(settings: Settings) -> list[str]:
    return sorted(file.name for file in (settings.home / "media" / "videos").iterdir() if file.is_file())


def test_a_dry_run_says_what_would_be_deleted_and_deletes_nothing(
    here: Wan, jobs: list[str], leftover: Path, settings: Settings
) -> None:
    before = files(settings)
    run = here("clean", "--days", "30", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert f"job {jobs[0]}" in run.stdout
    assert "an old star" in run.stdout
    assert jobs[1] not in run.stdout
    assert jobs[2] not in run.stdout
    assert str(leftover) in run.stdout
    assert "1 job and 1 leftover file would be deleted" in run.stdout
    assert (files(settings), leftover.exists()) == (before, True)


def test_without_a_terminal_nothing_is_deleted_unless_yes_is_said(
    here: Wan, jobs: list[str], leftover: Path, settings: Settings
) -> None:
    refused = here("clean", "--days", "30")
    assert refused.returncode == 2
    assert "add --yes to delete, or --dry-run" in refused.stderr
    assert len(files(settings)) == 3
    done = here("clean", "--days", "30", "--yes")
    assert (done.returncode, leftover.exists()) == (0, False), done.stderr
    assert "1 job and 1 leftover file deleted" in done.stdout
    assert files(settings) == sorted(f"{job}-0.mp4" for job in jobs[1:])
    assert "0 jobs and 0 leftover files deleted" in here("clean", "--days", "30").stdout  # nothing to ask about


@pytest.mark.parametrize(("answer", "left"), [("n", 3), ("", 3), ("y", 2)])
def test_in_a_terminal_it_asks(
    here: Wan, jobs: list[str], settings: Settings, monkeypatch: pytest.MonkeyPatch, answer: str, left: int
) -> None:
    class Terminal(io.TextIOWrapper):
        def __init__(self, buffer: io.BytesIO) -> None:
            super().__init__(io.BytesIO(f"{answer}\n".encode()))

        def isatty(self) -> bool:
            return True

    with monkeypatch.context() as patch:
        patch.setattr("tests.fixtures.command_line.io.TextIOWrapper", Terminal)
        run = here("clean", "--days", "30")
    assert "Delete this?" in run.stderr + run.stdout
    assert run.returncode == (0 if answer == "y" else 1)
    assert len(files(settings)) == left


def test_without_limits_no_job_is_deleted_and_the_settings_are_limits(
    here: Wan, jobs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = json.loads(here("clean", "--dry-run", "--json").stdout)
    assert (plan["jobs"], plan["leftovers"], plan["dry_run"]) == ([], [], True)
    plan = json.loads(here("--keep-days", "30", "clean", "--dry-run", "--json").stdout)
    assert [job["id"] for job in plan["jobs"]] == [jobs[0]]
    plan = json.loads(here("--keep-days", "30", "clean", "--days", "0", "--dry-run", "--json").stdout)
    assert plan["jobs"] == []
    plan = json.loads(here("clean", "--gb", "0.0015", "--dry-run", "--json").stdout)
    assert [job["id"] for job in plan["jobs"]] == [jobs[0]]
    assert plan["bytes"] > 0


def test_a_file_that_is_being_written_is_no_leftover(here: Wan, jobs: list[str], settings: Settings) -> None:
    with atomic_file(settings.home / "media" / "videos" / "x.png") as file:
        file.write_bytes(b"half")
        assert json.loads(here("clean", "--yes", "--json").stdout)["leftovers"] == []
        assert file.exists()


def test_files_of_jobs_that_the_table_does_not_know_go_only_when_asked(
    here: Wan, jobs: list[str], settings: Settings
) -> None:
    unknown = settings.home / "media" / "videos" / f"{'a' * 20}-0.mp4"
    fresh = settings.home / "media" / "videos" / f"{'b' * 20}-0.mp4"
    for file in (unknown, fresh):
        file.write_bytes(b"x")
    then = time.time() - 2 * DAY_S
    os.utime(unknown, (then, then))
    run = here("clean", "--yes")
    assert "1 file (1 byte) of jobs that are not in the table stays; --orphans deletes them" in run.stderr
    assert unknown.exists()
    assert here("clean", "--yes", "--orphans").returncode == 0
    assert (unknown.exists(), fresh.exists(), len(files(settings))) == (False, True, 4)


def test_the_output_folder_loses_unfinished_copies_and_nothing_else(here: Wan, jobs: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "Results"
    stale = folder / f".2026.mp4.{'0' * 16}.part"
    stale.mkdir(parents=True)
    for name in (".profile.12345678", "mine.part", ".x.part"):  # the former is a name of an older version's temporaries
        (folder / name).touch()
        os.utime(folder / name, (0, 0))
    run = here("--output-dir", folder, "clean", "--yes", "--json")
    assert json.loads(run.stdout)["leftovers"] == [str(stale)]
    assert sorted(file.name for file in folder.iterdir()) == [".profile.12345678", ".x.part", "mine.part"]


def test_a_home_that_does_not_exist_is_not_made(here: Wan, settings: Settings) -> None:
    assert here("clean", "--yes").returncode == 0
    assert not settings.home.exists()


def test_a_job_says_when_it_is_deleted_if_an_age_is_set(here: Wan, jobs: list[str]) -> None:
    shown = json.loads(here("--keep-days", "30", "jobs", "show", jobs[2]).stdout)
    assert shown["expires_at"] == shown["finished_at"] + 30 * DAY_S
    assert "expires_at" not in json.loads(here("--keep-days", "30", "jobs", "show", jobs[1]).stdout)
    assert "expires_at" not in json.loads(here("jobs", "show", jobs[2]).stdout)
