"""A job's place in the queue, as those see it who wait for it."""

import time

import pytest

from tests.jobs.conftest import Clock, video_plan, video_request
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.engines import Engines
from wan_mcp.jobs.queue import Queue
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.settings import Settings
from wan_mcp.specs import Job, Progress, Stage


@pytest.fixture
def queue(database: Database, store: JobStore, settings: Settings) -> Queue:
    timings = Timings(database)
    for stage, work in stage_work(video_plan()).items():
        timings.record("cpu", "wan-mini", stage, work, 1.0)
    return Queue(store, timings, Engines(settings, store))


def submit(store: JobStore, model: str) -> Job:
    return store.submit(video_request(), video_plan().model_copy(update={"model": model}), None, 99)


def test_a_check_of_weights_is_waited_for_by_all_behind_it(store: JobStore, queue: Queue, clock: Clock) -> None:
    submit(store, "copied")
    behind = submit(store, "wan-mini")
    alone = queue.view(submit(store, "wan-mini").id).eta_s
    checked = store.claim("cpu")
    clock.now = time.time()
    assert checked is not None and alone is None, "of 'copied' nothing is known"
    store.report(checked, Progress(stage=Stage.CHECK, fraction=0.0, eta_s=1000.0))
    eta_s = queue.view(behind.id).eta_s
    assert eta_s is not None and eta_s > 990
    assert queue.view(behind.id).queue_position == 1


def test_jobs_whose_model_is_being_downloaded_hold_up_nobody_else(store: JobStore, queue: Queue) -> None:
    submit(store, "distant")
    held_back = submit(store, "distant")
    first, second = submit(store, "wan-mini"), submit(store, "wan-mini")
    download = store.claim("cpu")
    assert download is not None
    store.report(download, Progress(stage=Stage.DOWNLOAD, fraction=0.0))
    views = [queue.view(job.id) for job in (first, second, held_back)]
    assert [view.queue_position for view in views] == [1, 2, 1]
    one, two, distant = (view.eta_s for view in views)
    assert one is not None and two is not None and 0 < one < two
    assert distant is None
