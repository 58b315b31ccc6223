"""`wan-mcp jobs`: a table for people, JSON for scripts."""

import json
from collections.abc import Callable

from tests.fixtures.command_line import Wan
from wan_mcp.settings import Settings


def test_without_jobs_it_says_so(wan: Wan) -> None:
    run = wan("jobs")
    assert run.returncode == 0
    assert "no jobs yet" in run.stdout


def test_the_table_shows_id_state_and_prompt_newest_first(wan: Wan) -> None:
    wan("generate", "image", "a red star")
    wan("generate", "video", "a blue ring with [brackets]")
    newest, oldest = (line for line in wan("jobs").stdout.splitlines() if "succeeded" in line)
    assert "text-to-video" in newest
    assert "a blue ring with [brackets]" in newest
    assert "a red star" in oldest
    assert json.loads(wan("jobs", "list", "--limit", 1, "--json").stdout)[0]["id"] in newest


def test_a_status_chooses_some(wan: Wan, engine: Callable[..., Settings]) -> None:
    wan("generate", "image", "a blue ring", settings=engine("fails"))
    [failed] = json.loads(wan("jobs", "list", "--status", "failed", "--json").stdout)
    assert failed["plan"]["prompt_asked"] == "a blue ring"
    assert json.loads(wan("jobs", "list", "--status", "succeeded", "--json").stdout) == []
    assert wan("jobs", "list", "--status", "lost").returncode == 2


def test_a_job_that_waits_can_be_cancelled(wan: Wan, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    (settings.home / "pace").write_text("0")
    wan("generate", "image", "a red star", "--detach")
    job_id = wan("generate", "image", "a blue ring", "--detach").stdout.strip()
    assert json.loads(wan("jobs", "show", job_id).stdout)["queue_position"] in (1, 2)
    assert wan("jobs", "cancel", job_id).stdout == f"job {job_id} is cancelled\n"
    assert json.loads(wan("jobs", "show", job_id).stdout)["state"] == "cancelled"


def test_an_unknown_id_is_one_sentence(wan: Wan) -> None:
    for verb in ("show", "cancel"):
        run = wan("jobs", verb, "nonsense")
        assert run.returncode == 2
        assert "no job 'nonsense'" in run.stderr
        assert "Traceback" not in run.stderr
