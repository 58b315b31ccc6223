"""A call and its job are two things: how long a call lasts, who follows a job, how one is stopped."""

from collections.abc import Callable

import anyio
import pytest
from mcp.types import TextContent

from tests.fixtures.job_table import video_plan
from tests.fixtures.mcp_server import ERAS, Connect, Pace, denoising
from tests.support.patience import PATIENCE_S
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.results import job_result
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService, JobView
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


async def test_a_call_that_does_not_wait_tells_how_to_follow_its_job(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            answer = await runner.call("generate_video", prompt="a red circle", wait_s=0)
    job_id = answer.job["job_id"]
    assert not answer.result.is_error
    assert answer.job["status"] == "queued"
    assert (answer.job["queue_position"], answer.job["progress"]) == (1, 0.0)
    assert f"get_job(job_id='{job_id}', wait_s=45)" in answer.text
    assert f"cancel_job(job_id='{job_id}')" in answer.text


async def test_a_wait_that_ends_early_shows_where_the_job_is(settings: Settings, connect: Connect, pace: Pace) -> None:
    pace.allow(3)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start(steps=6)
            await runner.until(job_id, lambda view: denoising(view) and view.job.progress.step == 3)  # type: ignore[union-attr]
            answer = await runner.call("get_job", job_id=job_id, wait_s=0.1)
    assert answer.job["status"] == "running"
    assert answer.job["stage"] == "denoising"
    assert 0 < answer.job["progress"] < 1
    assert "step 3/6" in answer.job["message"]


async def test_a_job_goes_on_under_another_server_when_its_own_is_gone(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    """LangChain's default on stdio: every call has a server of its own."""
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as first:
            job_id = await first.start(seed=5)
        pace.allow(100)
        async with connect(settings) as second:
            answer = await second.call("get_job", job_id=job_id)
    assert (answer.job["status"], answer.job["seed"]) == ("succeeded", 5)
    assert answer.pictures


@pytest.mark.parametrize("mode", ERAS)
async def test_a_caller_who_goes_away_does_not_stop_the_job(
    settings: Settings, connect: Connect, pace: Pace, mode: str
) -> None:
    pace.allow(1)
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings, mode) as runner:
            with anyio.CancelScope() as call:

                def leave(message: str) -> None:
                    if "step 1/" in message:
                        call.cancel()

                await runner.call("generate_video", leave, prompt="a red circle")
            assert call.cancelled_caught
            [job] = await runner.service.newest()
            assert not job.cancel_requested
            pace.allow(100)
            answer = await runner.call("get_job", job_id=job.id)
    assert answer.job["status"] == "succeeded"


async def test_a_repeated_request_id_attaches_to_its_job(settings: Settings, connect: Connect, pace: Pace) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            first = await runner.call("generate_video", prompt="a red circle", request_id="mine", wait_s=0)
            pace.allow(100)
            again = await runner.call("generate_video", prompt="a red circle", request_id="mine")
            other = await runner.call("generate_video", prompt="a blue star", request_id="mine")
            jobs = await runner.service.newest()
    assert again.job["job_id"] == first.job["job_id"]
    assert again.job["status"] == "succeeded"
    assert other.result.is_error
    assert "use a new request_id" in other.text
    assert len(jobs) == 1


async def test_a_running_job_stops_within_a_step_and_the_next_one_runs(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            job_id = await runner.start()
            await runner.until(job_id, denoising)
            cancelled = await runner.call("cancel_job", job_id=job_id)
            pace.allow(100)
            after = await runner.call("generate_video", prompt="a blue star")
    assert cancelled.job["status"] == "cancelled"
    assert not cancelled.result.is_error
    assert "is cancelled" in cancelled.text
    assert after.job["status"] == "succeeded"


async def test_a_job_that_is_still_stopping_says_so(settings: Settings) -> None:
    service = JobService(settings)
    job = Job(id="j", request_id=None, state=JobState.RUNNING, plan=video_plan(), created_at=0, cancel_requested=True)
    [words] = (await job_result(service, JobView(job), Places(service.media))).content
    assert isinstance(words, TextContent)
    assert "is stopping; call get_job(" in words.text
    assert "runs in the background" not in words.text


async def test_a_queued_job_is_cancelled_at_once_and_a_finished_one_stays(
    settings: Settings, connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(settings) as runner:
            first = await runner.start()
            second = await runner.start(prompt="a blue star")
            waiting = await runner.call("get_job", job_id=second, wait_s=0)
            cancelled = await runner.call("cancel_job", job_id=second)
            pace.allow(100)
            await runner.call("get_job", job_id=first)
            finished = await runner.call("cancel_job", job_id=first)
            again = await runner.call("cancel_job", job_id=second)
    assert waiting.job["queue_position"] in (1, 2)  # the engine may have claimed the first already
    assert cancelled.job["status"] == "cancelled"
    assert finished.job["status"] == "succeeded"
    assert f"Job {first} had already succeeded: there was nothing to stop." in finished.text
    assert again.job["status"] == "cancelled"
    assert f"Job {second} was already cancelled: there was nothing to stop." in again.text


async def test_a_full_queue_says_so_and_takes_jobs_again_later(
    engine: Callable[..., Settings], connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works", queue_limit=1)) as runner:
            running = await runner.start()
            await runner.until(running, denoising)
            waiting = await runner.start()
            full = await runner.call("generate_video", prompt="one too many", wait_s=0)
            pace.allow(100)
            await runner.call("get_job", job_id=waiting)
            later = await runner.call("generate_video", prompt="one too many")
    assert full.result.is_error
    assert "try again" in full.text
    assert later.job["status"] == "succeeded"


async def test_the_usual_wait_is_a_setting_and_never_more_than_the_longest(
    engine: Callable[..., Settings], connect: Connect, pace: Pace
) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with connect(engine("works", wait_s=0.0)) as runner:
            short = await runner.call("generate_video", prompt="a star")
        async with connect(engine("works", wait_s=45.0, max_wait_s=0.2)) as runner:
            shorter = await runner.call("get_job", job_id=short.job["job_id"])
            refused = await runner.call("get_job", job_id=short.job["job_id"], wait_s=0.3)
    assert short.job["status"] == "queued"
    assert shorter.job["status"] in ("queued", "running")
    assert refused.result.is_error
    assert "the job keeps running" in refused.text
