"""Progress notifications: their rules with a clock of our own, and what reaches a client."""

import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import anyio
import pytest

from tests.fixtures.job_table import Clock, video_plan
from tests.fixtures.mcp_server import ERAS, Connect, Pace, denoising
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp.progress import ProgressReports
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.service.service import JobView
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


class Sent:
    """Collects what is sent, with the time of each."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.all: list[tuple[float, float, str]] = []

    async def __call__(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        assert total == 100
        self.all.append((self._clock.now, progress, message or ""))

    @property
    def values(self) -> list[float]:
        return [value for _, value, _ in self.all]

    @property
    def messages(self) -> list[str]:
        return [message for _, _, message in self.all]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sent(clock: Clock) -> Sent:
    return Sent(clock)


@pytest.fixture
def reports(sent: Sent, clock: Clock) -> ProgressReports:
    return ProgressReports(sent, clock)


def queued(position: int, *, deaths: int = 0, eta_s: float | None = None) -> JobView:
    job = Job(id="j", request_id=None, state=JobState.QUEUED, plan=video_plan(), created_at=0, crashes=deaths)
    return JobView(job, queue_position=position, eta_s=eta_s)


def running(fraction: float, *, step: int | None = None, item: int = 1, items: int = 1, detail: str = "") -> JobView:
    stage = Stage.LOAD if step is None else Stage.DENOISE
    progress = Progress(
        stage=stage, step=step, steps=step and 12, item=item, items=items, fraction=fraction, detail=detail
    )
    job = Job(id="j", request_id=None, state=JobState.RUNNING, plan=video_plan(), created_at=0, progress=progress)
    return JobView(job)


def done() -> JobView:
    job = Job(
        id="j",
        request_id=None,
        state=JobState.SUCCEEDED,
        plan=video_plan(),
        created_at=0,
        started_at=10,
        finished_at=14.2,
    )
    return JobView(job)


async def test_the_first_word_is_zero_and_the_last_is_everything(
    reports: ProgressReports, sent: Sent, clock: Clock
) -> None:
    await reports.begin("Checking the request")
    clock.now += 1
    await reports.show(running(0.5, step=6))
    await reports.finish(done())
    assert sent.values == [0, 50, 100]
    assert sent.messages == ["Checking the request", "Denoising step 6/12", "Done in 4.2 s"]


async def test_words_name_the_stage_the_step_the_result_and_the_time_left(
    reports: ProgressReports, sent: Sent, clock: Clock
) -> None:
    for view in (
        queued(3, eta_s=500),
        queued(2, eta_s=61.4),
        queued(1),
        running(0.1, detail="1.5 of 9 GB"),
        replace(running(0.4, step=3, item=2, items=4), eta_s=12.3),
    ):
        await reports.show(view)
        clock.now += 1
    assert sent.messages == [
        "Queued: 2 jobs ahead, about 8 min left",
        "Queued: 1 job ahead, about 61 s left",
        "Queued: next to run",
        "Loading (1.5 of 9 GB)",
        "Denoising step 3/12, result 2 of 4, about 12 s left",
    ]


async def test_nothing_is_sent_more_often_than_four_times_a_second(
    reports: ProgressReports, sent: Sent, clock: Clock
) -> None:
    for step in range(1000):
        await reports.show(running(step / 1001, step=1))
        clock.now += 0.01
    times = [at for at, _, _ in sent.all]
    assert len(times) > 30
    assert min(b - a for a, b in pairwise(times)) >= 0.25


async def test_the_same_word_is_not_sent_twice(reports: ProgressReports, sent: Sent, clock: Clock) -> None:
    for _ in range(5):
        await reports.show(queued(2))
        clock.now += 1
    assert len(sent.all) == 1


async def test_a_job_that_goes_back_to_the_queue_never_goes_back_in_numbers(
    reports: ProgressReports, sent: Sent, clock: Clock
) -> None:
    for view in (running(0.6, step=6), queued(1, deaths=1), running(0.05), running(0.3, step=2), running(0.7, step=8)):
        await reports.show(view)
        clock.now += 1
    assert sent.values == sorted(set(sent.values))
    assert sent.values[0] == 60
    assert sent.values[3] == pytest.approx(60, abs=0.01)
    assert sent.values[4] == 70
    assert sent.messages[1] == "Queued again, because its engine died: next to run"


async def test_any_course_of_a_job_gives_strictly_increasing_values_below_the_total(clock: Clock) -> None:
    chance = random.Random(1)
    for _ in range(50):
        sent = Sent(clock)
        reports = ProgressReports(sent, clock)
        await reports.begin("Checking the request")
        for _ in range(200):
            fraction = chance.choice([0, 0.3, 0.99, chance.random() * 0.99])
            await reports.show(replace(running(fraction, step=1), eta_s=chance.random() * 50))
            clock.now += chance.random()
        await reports.finish(done())
        assert all(a < b for a, b in zip(sent.values, sent.values[1:], strict=False))
        assert sent.values[-1] == 100
        assert sent.values[-2] < 100


@pytest.mark.parametrize("mode", ERAS)
async def test_a_client_sees_the_queue_the_stages_and_the_end(
    settings: Settings, connect: Connect, pace: Pace, mode: str
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, mode) as runner:
            first = await runner.start()
            await runner.until(first, denoising)

            def go_on(message: str) -> None:
                if message.startswith("Queued"):
                    pace.allow(13)
                elif "step 1/" in message:
                    pace.allow(100)

            answer = await runner.call("generate_video", go_on, prompt="a blue star")
    values = [value for value, _, _ in answer.progress]
    messages = [message for _, _, message in answer.progress]
    assert answer.progress[0] == (0, 100, "Checking the request")
    assert all(a < b for a, b in pairwise(values))
    assert messages[1].startswith("Queued: next to run")
    assert any(message.startswith("Denoising step 1/12") for message in messages)
    assert answer.progress[-1][0] == 100
    assert {total for _, total, _ in answer.progress} == {100}


async def test_following_a_job_reports_progress_too(
    engine: Callable[..., Settings], connect: Connect, pace: Pace
) -> None:
    pace.allow(2)
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works")) as runner:
            job_id = await runner.start(steps=4)
            answer = await runner.call("get_job", lambda message: pace.allow(4), job_id=job_id)
    assert answer.job["status"] == "succeeded"
    assert answer.progress[0][1] == 100
    assert answer.progress[-1][0] == 100
