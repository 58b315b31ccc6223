"""`wan-mcp engine status` and `stop`: the engines of a home, as a person sees and ends them."""

import json

from tests.fixtures.command_line import Wan
from wan_mcp.jobs.processes import Processes
from wan_mcp.settings import Settings


def test_an_engine_is_shown_and_stopped_and_its_memory_is_free(here: Wan) -> None:
    assert here("engine", "status").stdout == "no engine is running; the next job starts one\n"
    assert here("engine", "stop").stdout == "no engine is running\n"
    here("generate", "image", "a red star")
    run = here("engine", "status", "--json")
    [shown] = json.loads(run.stdout)
    assert (shown["device"], shown["models"], shown["job"], shown["queued"]) == ("cpu", ["wan-mini"], None, 0)
    assert run.stderr == ""
    assert here("engine", "status").stdout == f"cpu: process {shown['pid']} is idle, has wan-mini in memory\n"
    assert here("engine", "stop").stdout == f"stopped the engine of cpu (process {shown['pid']})\n"
    assert Processes().identity(shown["pid"]) is None
    assert "no engine is running" in here("engine", "status").stdout


def test_an_engine_at_work_is_stopped_only_by_force(here: Wan, settings: Settings) -> None:
    settings.home.mkdir(parents=True)
    pace = settings.home / "pace"
    pace.write_text("0")
    job_id = here("generate", "image", "a red star", "--detach").stdout.strip()
    while json.loads(here("jobs", "show", job_id).stdout)["state"] != "running":
        pass
    refused = here("engine", "stop")
    assert refused.returncode == 2
    assert f"is running job {job_id}, which would begin again" in refused.stderr
    assert "--force" in refused.stderr
    assert here("engine", "stop", "--force").returncode == 0
    pace.unlink()
    assert here("jobs", "wait", job_id).returncode == 0
