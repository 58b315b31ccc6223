"""Real engines of the embedded model, side by side on one queue: each under the name and the lock of another GPU."""

import shlex
import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.job_table import video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.schema.enums import JobState
from wan_mcp.settings import Settings

ENGINE = Path(__file__).parents[2] / "support" / "cpu_engine.py"


def test_two_engines_run_two_jobs_at_once_and_make_the_same_of_the_same_request(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTO_DEVICE", "cuda:0,cuda:1")
    command = shlex.join([sys.executable, str(ENGINE)])
    front = settings.model_copy(update={"device": "auto", "engine_command": command, "threads": 1, "compile": False})
    database = Database(front.database)
    store = JobStore(database)
    engines, watch = Supervisor(front, store), database.watch()
    jobs = [store.submit(video_request(), video_plan(steps=3), None, 99) for _ in range(2)]
    end, at_once = time.monotonic() + PATIENCE_S, 0
    while store.unfinished():
        assert time.monotonic() < end
        engines.supervise()
        at_once = max(at_once, len(engines.engines()))
        watch.wait(0.2)
    ended = [store.get(job.id) for job in jobs]
    assert [job.state for job in ended] == [JobState.SUCCEEDED] * 2, [job.error for job in ended]
    assert at_once == 2
    if len({job.device for job in ended}) == 2:  # else the first was ready so early that it ran both
        pixels = [Path(job.artifacts[0].path).read_bytes() for job in ended]
        assert pixels[0] == pixels[1]
    engines.free()
    watch.close()
    database.close()
