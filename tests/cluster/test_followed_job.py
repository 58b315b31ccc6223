"""A job of an actor, as the dispatcher follows it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from ray.exceptions import ActorDiedError, ObjectStoreFullError

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.cluster.followed_job import FollowedJob
from wan_mcp.cluster.messages import FileHere
from wan_mcp.cluster.remote_actor import RemoteActor
from wan_mcp.errors import OutOfSpace
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Job, Progress
from wan_mcp.settings import Settings

DEVICE = "cuda:0@box-1a2b3c"


class Actor:
    """An actor with one file, or with an error in its place."""

    def __init__(self, file: bytes | Exception = b"") -> None:
        self.file = file
        self.forgotten: list[str] = []

    async def read(self, file: FileHere, offset: int) -> bytes:
        """Return the file."""
        if isinstance(self.file, Exception):
            raise self.file
        return self.file

    async def call(self, what: str, ids: list[str]) -> Any:
        """Forget jobs."""
        assert what == "forget"
        self.forgotten += ids


@pytest.fixture
def store(settings: Settings) -> Iterator[JobStore]:
    database = Database(settings.database)
    yield JobStore(database)
    database.close()


def claimed(store: JobStore) -> Job:
    store.submit(video_request(), video_plan(), None, 10)
    job = store.claim(DEVICE)
    assert job is not None
    return job


async def follow(settings: Settings, store: JobStore, job: Job, actor: Actor, there: Job) -> None:
    """Let the dispatcher hear of a job's preview, then that the job is as in `there`."""
    ended = asyncio.Event()
    followed = FollowedJob(
        job, cast(RemoteActor, actor), store, settings, lambda job: False, lambda job_id: ended.set()
    )
    await followed.note_preview(1)
    followed.note(there, {})
    await ended.wait()


@pytest.mark.parametrize("error", [FileNotFoundError(2, "its attempt has ended"), ObjectStoreFullError()])
def test_a_preview_that_cannot_be_brought_costs_no_job(settings: Settings, store: JobStore, error: Exception) -> None:
    job = claimed(store)
    there = job.model_copy(update={"state": JobState.SUCCEEDED})
    asyncio.run(follow(settings, store, job, Actor(error), there))
    assert store.get(job.id).state is JobState.SUCCEEDED


def test_the_death_of_an_actor_is_noticed_while_a_preview_is_brought(settings: Settings, store: JobStore) -> None:
    job = claimed(store)
    with pytest.raises(ActorDiedError):
        asyncio.run(follow(settings, store, job, Actor(ActorDiedError()), job))


def test_the_preview_of_a_job_that_has_ended_is_removed(settings: Settings, store: JobStore, tmp_path: Path) -> None:
    job, there, here = claimed(store), PreviewStore(tmp_path / "machine"), PreviewStore(settings.home)
    there.write(job.id, job.attempt, np.zeros((1, 8, 8, 3), np.uint8), (8, 8))
    here.look(job.id)
    actor = Actor(there.path(job.id).read_bytes())
    asyncio.run(follow(settings, store, job, actor, job.model_copy(update={"state": JobState.CANCELLED})))
    assert actor.forgotten == [job.id]
    assert list((settings.home / "previews").glob("*")) == []


def test_a_disk_that_is_full_for_progress_is_named(
    settings: Settings, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*given: object) -> bool:
        raise OutOfSpace("the disk is full")

    job = claimed(store)
    monkeypatch.setattr(store, "report", full)
    progress = Progress(stage=Stage.DENOISE, fraction=0.5)
    asyncio.run(follow(settings, store, job, Actor(), job.model_copy(update={"progress": progress})))
    error = store.get(job.id).error
    assert error is not None
    assert (error.code, error.message) == ("out_of_space", "the disk is full")
