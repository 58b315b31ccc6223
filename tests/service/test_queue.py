"""A job's place in the queue, as those see it who wait for it."""

import itertools
import time
from collections.abc import Callable

import pytest

from tests.fixtures.job_table import Clock, caption_plan, video_plan, video_request
from tests.support.patience import PATIENCE_S
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.store import JobStore
from wan_mcp.jobs.supervisor import Supervisor
from wan_mcp.jobs.timings import Timings, stage_work
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.service.queue import Queue
from wan_mcp.settings import Settings

LOAD_S = 64.0
CAPTION = caption_plan()


@pytest.fixture
def queue(database: Database, store: JobStore, settings: Settings) -> Queue:
    timings = Timings(database)
    for stage, work in stage_work(video_plan()).items():
        timings.record("cpu", "wan-mini", stage, work, LOAD_S if stage is Stage.LOAD else 1.0)
        timings.record("cpu", "wan-mini", stage, work, LOAD_S if stage is Stage.LOAD else 1.0, "+full")
    for stage, work in stage_work(CAPTION).items():
        timings.record("cpu", CAPTION.model, stage, work, LOAD_S if stage is Stage.LOAD else 1.0)
    return Queue(store, Supervisor(settings, store))


def submit(store: JobStore, model: str) -> Job:
    return store.submit(video_request(), video_plan().model_copy(update={"model": model}), None, 99)


def test_models_that_lie_in_memory_are_not_expected_to_be_loaded_again(
    database: Database, store: JobStore, queue: Queue
) -> None:
    rows = WorkerRegistry(database)
    rows.register("cpu", time.time() + 100)
    full = store.submit(video_request(), video_plan().model_copy(update={"precision": "full"}), None, 99)
    first, last = submit(store, "wan-mini"), submit(store, "wan-mini")
    caption = store.submit(CaptionRequest(image="x"), CAPTION, None, 99)

    def expected(loaded: LoadedModels) -> list[float]:
        rows.heartbeat("cpu", time.time() + 100, loaded)
        seconds = [queue.view(job.id).eta_s or 0.0 for job in (full, first, last, caption)]
        return [after - before for before, after in itertools.pairwise([0.0, *seconds])]

    cold = expected(LoadedModels())
    assert cold[0] == cold[1] == cold[2] + LOAD_S, "another precision is another load"
    assert expected(LoadedModels(captioner="wan-mini-caption")) == [*cold[:3], cold[3] - LOAD_S]
    assert expected(LoadedModels(generator=("wan-mini", "full"))) == [cold[0] - LOAD_S, *cold[1:]]
    assert expected(LoadedModels(generator=("wan-mini", "auto"))) == cold


def loaded_by(engines: Supervisor) -> LoadedModels | None:
    return next((row.loaded for row in engines.engines()), None)


def test_an_engine_tells_what_it_has_loaded(engine: Callable[..., Settings]) -> None:
    settings = engine("works")
    database = Database(settings.database)
    store = JobStore(database)
    engines = Supervisor(settings, store)
    plans: list[Plan] = [video_plan(), CAPTION]
    jobs = [store.submit(video_request(str(plan)), plan, None, 99) for plan in plans]
    engines.supervise()
    wanted = LoadedModels(generator=("wan-mini", "auto"), captioner="wan-mini-caption")
    watch, end = database.watch(), time.monotonic() + PATIENCE_S
    while (loaded := loaded_by(engines)) != wanted and time.monotonic() < end:
        watch.wait(1)
    watch.close()
    assert loaded == wanted
    assert all(store.get(job.id).state is JobState.SUCCEEDED for job in jobs)
    database.close()


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
