"""What the dispatcher and its actors say to each other, as JSON: nothing that a client sent is ever unpickled."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from wan_mcp.hardware.machine import Machine
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.loaded_models import LoadedModels
from wan_mcp.jobs.timings import Measurement
from wan_mcp.schema.jobs import Job

__all__ = ["FileHere", "News", "Order", "Start"]


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class FileHere(_Message):
    """A file in the home of one of the two."""

    place: str
    """Its path below the home, with forward slashes."""
    bytes: int
    sha256: str = ""
    """Empty where its name says what it is."""


class Order(_Message):
    """A job for an actor, and the files that it needs, some of which the actor may have."""

    job: Job
    files: tuple[FileHere, ...]


class News(_Message):
    """What an actor says of itself whenever that changes."""

    machine: Machine | None
    """None until its engine has found out."""
    loaded: LoadedModels
    helps: bool
    """Whether its engine works on the job of another one of its machine."""
    jobs: tuple[Job, ...]
    """What was handed to it, as far as it has come."""
    results: dict[str, tuple[FileHere, ...]]
    """The files of each result of these jobs, by the result's address."""
    previews: dict[str, int]
    """When a preview of these jobs was made last, in nanoseconds; by the ids of jobs."""
    deaths: dict[str, Death]
    """How the engine died that ran these jobs before this actor was there."""
    timings: tuple[Measurement, ...]
    """What was measured since the last time."""


class Start(_Message):
    """What an actor is made with."""

    home_id: str
    """Of the home whose queue it serves."""
    device: str
    """Its name in that home's job table."""
    folder: str
    """The folder of its home; empty for one below the home of its machine."""
    lease_s: float
    """Seconds without a call after which the actor ends."""
    settings: dict[str, Any]
    """Those of the dispatcher that concern an engine. Others are those of the machine."""
    runner: str
    """What builds the runner, as module:function."""
    version: str
    """Of the dispatcher's wan-mcp."""
