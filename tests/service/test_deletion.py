"""Jobs that are deleted with their files, whole or at the next start."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from tests.fixtures.mcp_server import png
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import BadRequest, UnknownJob
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.history import JobHistory
from wan_mcp.media.store import INPUT_KEPT_S, MediaStore
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio


@pytest.fixture
async def service(settings: Settings) -> AsyncIterator[JobService]:
    async with serving(settings) as service:
        yield service


async def made(service: JobService, request: VideoRequest | ImageRequest) -> Job:
    job = (await service.submit(request)).job
    view = await service.wait(job.id, PATIENCE_S)
    assert view.job.state == "succeeded"
    return view.job


def files_of(settings: Settings, job: Job) -> list[str]:
    return sorted(file.name for file in (settings.home / "media").rglob(f"{job.id}*"))


def picture(settings: Settings, width: int) -> str:
    file = settings.image_dirs[0] / f"{width}.png"
    file.write_bytes(png(width, 64))
    return str(file)


def aged(file: Path) -> Path:
    then = file.stat().st_mtime - 2 * INPUT_KEPT_S
    os.utime(file, (then, then))
    return file


async def test_a_deleted_job_takes_its_files_with_it_and_no_others(service: JobService, settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        video = await made(service, VideoRequest(prompt="a red circle", steps=2, count=2))
        other = await made(service, ImageRequest(prompt="a star", steps=2))
        (settings.home / "media" / "videos" / f"{video.id}-0.poster.jpg").touch()  # this engine makes none
        assert len(files_of(settings, video)) == 5  # two videos, each with a sheet, and a poster
        assert await service.delete(video.id) == video
        assert files_of(settings, video) == []
        assert files_of(settings, other) == [f"{other.id}-0.png"]
        with pytest.raises(UnknownJob):
            await service.view(video.id)
        with pytest.raises(UnknownJob):
            await service.delete(video.id)
        assert (await service.find()).jobs == [other]


async def test_a_kept_job_stays_with_its_files(service: JobService, settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        job = await made(service, ImageRequest(prompt="a star", steps=2))
        assert (await service.keep(job.id)).job.kept
        with pytest.raises(BadRequest, match="is kept"):
            await service.delete(job.id)
        assert files_of(settings, job) == [f"{job.id}-0.png"]


async def test_what_a_killed_process_left_of_a_deleted_job_goes_at_the_next_start(settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        async with serving(settings) as service:
            job = await made(service, VideoRequest(prompt="a red circle", steps=2))
        database = Database(settings.database)
        JobHistory(database).delete(job.id)  # and there the process was killed
        database.close()
        assert files_of(settings, job)
        async with serving(settings) as service:
            assert (await service.find()).jobs == []
            assert files_of(settings, job) == []


async def test_an_input_image_goes_when_no_job_has_it_and_nobody_has_just_taken_it(
    service: JobService, settings: Settings
) -> None:
    with anyio.fail_after(PATIENCE_S):
        first = await made(service, ImageRequest(prompt="a star", image=picture(settings, 48), steps=2))
        second = await made(service, ImageRequest(prompt="a ring", image=picture(settings, 48), steps=2))
        other = await made(service, ImageRequest(prompt="a disc", image=picture(settings, 56), steps=2))
        shared, own = (settings.home / job.plan.image.file for job in (first, other) if job.plan.image is not None)
        aged(shared)
        await service.delete(first.id)
        assert shared.exists(), "the second job has it"
        await service.delete(other.id)
        assert own.exists(), "a job may be about to be queued with it"
        aged(own)
        await service.delete(second.id)
        assert not shared.exists()
        assert not own.exists()


async def test_an_image_that_is_taken_again_counts_as_new(service: JobService, settings: Settings) -> None:
    with anyio.fail_after(PATIENCE_S):
        first = await made(service, ImageRequest(prompt="a star", image=picture(settings, 48), steps=2))
        assert first.plan.image is not None
        file = aged(settings.home / first.plan.image.file)
        again = await service.submit(ImageRequest(prompt="a ring", image=picture(settings, 48), steps=2))
        assert again.job.plan.image == first.plan.image
        MediaStore(settings.home).remove_unused_inputs(lambda: "", file.stat().st_atime)
        assert file.exists()
        await service.wait(again.job.id, PATIENCE_S)


async def test_who_follows_all_jobs_hears_of_each_without_asking_in_vain(service: JobService) -> None:
    with anyio.fail_after(PATIENCE_S):
        start = await service.cursor()
        async with anyio.create_task_group() as tasks:

            @tasks.start_soon
            async def ask() -> None:
                await service.submit(ImageRequest(prompt="a star", steps=2), client="somebody")

            changes = await service.changed_since(start, PATIENCE_S)
        [job] = changes.jobs.jobs
        assert (job.plan.prompt_asked, job.client) == ("a star", "somebody")
        await service.wait(job.id, PATIENCE_S)
        await service.delete(job.id)
        assert (await service.changed_since(changes.cursor)).deleted == [job.id]
        now = await service.cursor()
        assert (await service.changed_since(now)).cursor == now
