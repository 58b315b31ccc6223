"""`wan-mcp jobs`: a table for people, JSON for scripts."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import Wan
from tests.fixtures.job_table import caption_plan
from wan_mcp.errors import UnknownJob
from wan_mcp.fronts.cli.chosen_job import chosen_job, job_as_json
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.service.service import JobView
from wan_mcp.settings import Settings

ENDED = Job(
    id="j",
    request_id=None,
    state=JobState.SUCCEEDED,
    plan=caption_plan(),
    created_at=0.0,
)


def test_without_jobs_it_says_so(here: Wan) -> None:
    run = here("jobs")
    assert run.returncode == 0
    assert "no jobs yet" in run.stdout


def test_the_table_shows_id_state_and_prompt_newest_first(here: Wan) -> None:
    here("generate", "image", "a red star")
    here("generate", "video", "a blue ring with [brackets]")
    newest, oldest = (line for line in here("jobs").stdout.splitlines() if "succeeded" in line)
    assert "text-to-video" in newest
    assert "a blue ring with [brackets]" in newest
    assert "a red star" in oldest
    assert json.loads(here("jobs", "list", "--limit", 1, "--json").stdout)[0]["id"] in newest


def test_a_status_chooses_some(here: Wan, wan: Wan, engine: Callable[..., Settings]) -> None:
    wan("generate", "image", "a blue ring", settings=engine("fails"))
    [failed] = json.loads(here("jobs", "list", "--status", "failed", "--json").stdout)
    assert failed["plan"]["prompt_asked"] == "a blue ring"
    assert json.loads(here("jobs", "list", "--status", "succeeded", "--json").stdout) == []
    assert here("jobs", "list", "--status", "lost").returncode == 2
    today = f"{datetime.fromtimestamp(failed['created_at']):%Y-%m-%d}"
    assert [
        json.loads(here("jobs", "list", *days, "--json").stdout)
        for days in (("--since", today, "--until", "9998-01-01"), ("--until", "2001-01-01"), ("--since", "9998-01-01"))
    ] == [[failed], [], []]
    for odd in ("yesterday", "9999-12-31"):
        assert here("jobs", "list", "--until", odd).returncode == 2


def test_a_job_that_waits_can_be_cancelled(here: Wan, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0")
    here("generate", "image", "a red star", "--detach")
    job_id = here("generate", "image", "a blue ring", "--detach").stdout.strip()
    assert json.loads(here("jobs", "show", job_id).stdout)["queue_position"] in (1, 2)
    assert here("jobs", "cancel", job_id).stdout == f"job {job_id} is cancelled\n"
    assert json.loads(here("jobs", "show", job_id).stdout)["state"] == "cancelled"


def test_an_unknown_id_is_one_sentence(here: Wan) -> None:
    for verb in ("show", "cancel", "wait", "rm", "keep"):
        run = here("jobs", verb, "nonsense")
        assert run.returncode == 2
        assert "no job 'nonsense'" in run.stderr
        assert "Traceback" not in run.stderr
    assert "no jobs yet" in here("jobs", "show", "latest").stderr


def test_waiting_brings_the_result_of_a_detached_job(here: Wan, settings: Settings, tmp_path: Path) -> None:
    job_id = here("generate", "image", "a red star", "--detach").stdout.strip()
    run = here("jobs", "wait", job_id, "-o", tmp_path / "star.png")
    assert (run.returncode, run.stdout.strip()) == (0, str(tmp_path / "star.png"))
    assert (tmp_path / "star.png").read_bytes().startswith(b"\x89PNG")
    again = here("jobs", "wait", "latest", "-o", tmp_path / "star.png")
    assert (again.returncode, "already exists" in again.stderr) == (2, True)
    wrong = here("jobs", "wait", "latest", "-o", tmp_path / "star.mp4")
    assert (wrong.returncode, "an image needs .png" in wrong.stderr) == (2, True)
    assert json.loads(here("jobs", "wait", "latest", "--json").stdout)["id"] == job_id


def test_waiting_for_a_failed_job_exits_as_the_job_itself_did(
    here: Wan, wan: Wan, engine: Callable[..., Settings]
) -> None:
    assert wan("generate", "image", "a blue ring", settings=engine("fails")).returncode == 1
    run = here("jobs", "wait", "latest")
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.strip()


def test_a_job_is_named_by_the_beginning_of_its_id(here: Wan) -> None:
    job_id = here("generate", "image", "a red star", "--detach").stdout.strip()
    assert json.loads(here("jobs", "show", job_id[:6]).stdout)["id"] == job_id
    assert json.loads(here("jobs", "show", "latest").stdout)["id"] == job_id
    assert here("jobs", "show", job_id[:2]).returncode == 2


@pytest.mark.anyio
async def test_a_beginning_that_several_jobs_have_is_refused_with_them() -> None:
    class Two:
        """A service with two jobs."""

        async def view(self, job_id: str) -> JobView:
            raise UnknownJob(f"no job '{job_id}'")

        async def newest(self, *, limit: int) -> list[Job]:
            return [ENDED.model_copy(update={"id": f"abcd{end}"}) for end in "ef"]

    service: Any = Two()
    with pytest.raises(UnknownJob, match="2 jobs begin with 'abcd': abcde, abcdf; write more"):
        await chosen_job(service, "abcd")


def test_jobs_that_have_ended_can_be_deleted_and_kept_ones_cannot(here: Wan, settings: Settings) -> None:
    first = here("generate", "image", "a red star", "--json")
    [file] = [Path(each["path"]) for each in json.loads(first.stdout)["artifacts"]]
    assert "is kept" in here("jobs", "keep", "latest").stdout
    refused = here("jobs", "rm", "latest")
    assert refused.returncode == 2
    assert file.exists()
    assert "no longer kept" in here("jobs", "keep", "latest", "--off").stdout
    assert here("jobs", "rm", "latest").returncode == 0
    assert not file.exists()
    assert "no jobs yet" in here("jobs").stdout


def test_cancelling_a_job_that_has_ended_says_so(here: Wan) -> None:
    here("generate", "image", "a red star")
    assert "had already ended (succeeded): there was nothing to stop" in here("jobs", "cancel", "latest").stdout


def test_jobs_are_chosen_by_words_kind_and_model(here: Wan) -> None:
    here("generate", "image", "a red star")
    here("generate", "video", "a blue ring")
    assert here("jobs", "--kind", "image", "--limit", 5).stdout == here("jobs", "list", "--kind", "image").stdout
    assert len(json.loads(here("jobs", "--json").stdout)) == 2
    shown = here("jobs", "list", "ring").stdout
    assert "a blue ring" in shown
    assert "a red star" not in shown
    assert "a red star" in here("jobs", "list", "--kind", "image").stdout
    assert "no such jobs" in here("jobs", "list", "--model", "wan-mini-caption").stdout


def test_a_pipe_gets_model_seed_and_file_of_each_job(here: Wan) -> None:
    made = json.loads(here("generate", "image", "a red star", "--seed", 7, "--json").stdout)
    [line] = [line for line in here("jobs").stdout.splitlines() if made["id"] in line]
    assert line.split()[5:7] == ["wan-mini", "7"]
    assert line.rstrip().endswith(made["artifacts"][0]["path"])


def test_a_job_as_json_has_the_stage_of_its_kind_and_none_of_ended_work() -> None:
    running = ENDED.model_copy(
        update={"state": JobState.RUNNING, "progress": Progress(stage=Stage.DENOISE, fraction=0.5)}
    )
    assert job_as_json(running)["progress"]["stage"] == "captioning"
    assert job_as_json(running.model_copy(update={"state": JobState.SUCCEEDED}))["progress"] is None
