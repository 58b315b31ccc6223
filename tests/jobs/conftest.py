"""What the tests of the job table share."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import VideoRequest


class StrictConnection(sqlite3.Connection):
    """Refuses a sequence of parameters for named or numbered placeholders, whatever Python runs the tests.

    Python 3.14 refuses named ones, and 3.12.0 to 3.12.3 warn of both (https://github.com/python/cpython/issues/117995).
    """

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        outside_literals = re.sub(r"'[^']*'", "''", sql)
        named = re.findall(r"[:@$]\w+|\?\d+", outside_literals)
        # An AssertionError, for the service lives through errors of SQLite.
        assert isinstance(parameters, Mapping) or not named, f"{named} need a mapping: {sql}"
        return super().execute(sql, parameters)


@pytest.fixture(autouse=True)
def _as_strict_as_any_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=StrictConnection))


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
