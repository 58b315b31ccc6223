"""What the tests of the job table share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.specs import Task, VideoPlan, VideoRequest


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "jobs.db")
    yield database
    database.close()


@pytest.fixture
def store(database: Database, clock: Clock) -> JobStore:
    return JobStore(database, clock)


def video_request(prompt: str = "a red circle") -> VideoRequest:
    return VideoRequest(prompt=prompt)


def video_plan(prompt: str = "a red circle", *, steps: int = 12, count: int = 1, num_frames: int = 17) -> VideoPlan:
    return VideoPlan(
        task=Task.TEXT_TO_VIDEO,
        model="wan-mini",
        prompt=prompt,
        prompt_asked=prompt,
        negative_prompt="",
        style=None,
        width=128,
        height=128,
        steps=steps,
        guidance_scale=3.0,
        seed=7,
        count=count,
        num_frames=num_frames,
        fps=8,
        duration_s=num_frames / 8,
    )
