"""Rows of the job table as jobs; a row that this version cannot understand is that row's fault alone.

A newer version on the same home may write words that this one does not know, and damage may write anything. Such a
row is returned as an `UnreadableJob`: shown, never claimed, and never changed except by a person. Keys that are
unknown are ignored; they belong to a newer version.
"""

import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wan_mcp.errors import UnknownJob, UnreadableRow
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job, JobError, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.schema.refusals import phrase
from wan_mcp.text import first_line, quoted, shortened

__all__ = ["COLUMNS", "JobListing", "UnreadableJob", "is_device_name", "read_row", "readable", "unknown_job"]

COLUMNS = (
    "id, request_id, state, plan, progress, error, artifacts, caption, notes, cancel_requested, device, attempt,"
    " deaths, created_at, started_at, updated_at, finished_at, client, owner, kept, parent, download_limit, reviews"
)
"""The columns that a job consists of. Not `request`: only a repeated request_id is compared with it."""

REASON_SHOWN = 300  # characters
END_OF_TIME = 253_402_300_800.0  # the year 10000, which no calendar of Python's has
MAX_NUMBER = 2**64  # of any number in a row, seeds included
MAX_SIZE = 10**9
SIZES = ("width", "height", "steps", "count", "num_frames", "fps", "duration_s", "max_new_tokens", "tokens", "even_at")
DEVICE_NAME = re.compile(r"auto|[a-z]{1,16}(:\d{1,4}(@[a-z0-9][a-z0-9.-]{0,79})?)?")

_plan: TypeAdapter[Plan] = TypeAdapter(Plan)
_artifacts: TypeAdapter[tuple[Artifact, ...]] = TypeAdapter(tuple[Artifact, ...])
_notes: TypeAdapter[tuple[str, ...]] = TypeAdapter(tuple[str, ...])


@dataclass(frozen=True)
class UnreadableJob:
    """A row that this version cannot understand."""

    id: str
    state: str
    """The word in the row, which may be unknown."""
    reason: str

    def __str__(self) -> str:
        """Return a sentence for people."""
        return (
            f"job {self.id} ({self.state}) is unreadable: {self.reason}. A newer version of wan-mcp has written it, or "
            "it is damaged; other jobs are not affected, and 'wan-mcp doctor --repair' mends it or sets it aside"
        )


@dataclass(frozen=True)
class JobListing:
    """Some rows of the table, the newest first."""

    jobs: list[Job]
    unreadable: list[UnreadableJob]
    before: str | None = None
    """The id before which older matching rows follow; None if these are all."""

    @classmethod
    def of(cls, rows: Iterable[sqlite3.Row], before: str | None = None) -> "JobListing":
        """Return the jobs in rows with `COLUMNS`."""
        found = [read_row(row) for row in rows]
        return cls(
            [job for job in found if isinstance(job, Job)],
            [job for job in found if isinstance(job, UnreadableJob)],
            before,
        )


def read_row(row: sqlite3.Row | Mapping[str, Any]) -> Job | UnreadableJob:
    """Return the job in a row with `COLUMNS`, or why it cannot be understood."""
    try:
        return _job(row)
    except Exception as error:  # whatever a row holds, it must affect no other
        reason = _in_words(error)
    return UnreadableJob(_shown(row["id"], 40), _shown(row["state"], 20), _shown(reason, REASON_SHOWN))


def readable(row: sqlite3.Row) -> Job:
    """Return the job in a row with `COLUMNS`.

    Raises:
        UnreadableRow: it cannot be understood.
    """
    job = read_row(row)
    if isinstance(job, UnreadableJob):
        raise UnreadableRow(str(job))
    return job


def unknown_job(job_id: str) -> UnknownJob:
    """Return the error of a job that does not exist, or not for its caller."""
    return UnknownJob(f"no job {quoted(job_id)}; list_jobs shows the existing jobs")


def is_device_name(name: object) -> bool:
    """Check whether a text from the table can be a device's name; lock files are named for devices."""
    return isinstance(name, str) and DEVICE_NAME.fullmatch(name) is not None


def _job(row: sqlite3.Row | Mapping[str, Any]) -> Job:
    notes = _part("notes", _notes, row["notes"])
    try:
        progress = Progress.model_validate_json(row["progress"], extra="ignore") if row["progress"] else None
        _check_numbers("progress", progress.model_dump() if progress else None)
    except Exception as error:  # the job itself can be understood, and is more than its progress
        progress = None
        reason = _shown(_in_words(error), REASON_SHOWN)
        notes += (f"the job's progress is unreadable for this version of wan-mcp ({reason})",)
    job = Job(
        id=row["id"],
        request_id=row["request_id"],
        state=_state(row["state"]),
        plan=_read_plan(row["plan"]),
        created_at=row["created_at"],
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        finished_at=row["finished_at"],
        progress=progress,
        error=JobError.model_validate_json(row["error"], extra="ignore") if row["error"] else None,
        artifacts=_part("artifacts", _artifacts, row["artifacts"]),
        caption=row["caption"],
        notes=notes,
        cancel_requested=bool(row["cancel_requested"]),
        device=row["device"],
        attempt=row["attempt"],
        crashes=row["deaths"],
        **_later(row),
    )
    for name in ("created_at", "started_at", "updated_at", "finished_at"):
        at = row[name]
        if at is not None and not 0 <= at < END_OF_TIME:
            raise ValueError(f"{name}: {at:g} is not a time")
    for name in ("attempt", "deaths"):
        if not 0 <= row[name] < 2**31:
            raise ValueError(f"{name}: {row[name]} is not a count")
    _check_numbers("artifacts", [artifact.model_dump() for artifact in job.artifacts])
    if job.device is not None and not is_device_name(job.device):
        raise ValueError(f"device: '{shortened(job.device, 40)}' is not a device")
    return job


def _later(row: sqlite3.Row | Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the columns that a table of an older version does not have; `repair` reads such tables."""
    there = set(row.keys())
    values: dict[str, Any] = {name: row[name] or "" for name in ("client", "owner", "parent") if name in there}
    values |= {"kept": bool(row["kept"])} if "kept" in there else {}
    return values | {name: row[name] for name in ("download_limit", "reviews") if name in there}


def _state(word: str) -> JobState:
    try:
        return JobState(word)
    except ValueError:
        raise ValueError(f"state: '{shortened(str(word), 40)}' is not one of {', '.join(JobState)}") from None


@lru_cache(maxsize=256)  # a plan never changes, and the queue is read at every commit
def _read_plan(text: str) -> Plan:
    plan: Plan = _part("plan", _plan, text)
    _check_numbers("plan", plan.model_dump())
    return plan


def _part(name: str, adapter: TypeAdapter[Any], text: str) -> Any:
    try:
        return adapter.validate_json(text, extra="ignore")
    except ValidationError as error:
        raise ValueError(f"{name}: {_in_words(error)}") from error


def _check_numbers(name: str, value: Any) -> None:
    """Refuse numbers that no request has: a row may hold any, and arithmetic with them fails far from here."""
    match value:
        case dict():
            for key, each in value.items():
                if key in SIZES and each is not None and not 0 < each <= MAX_SIZE:
                    raise ValueError(f"{name}.{key}: the number is out of range")
                _check_numbers(f"{name}.{key}", each)
        case list() | tuple():
            for each in value:
                _check_numbers(name, each)
        case int() | float() if not -MAX_NUMBER <= value <= MAX_NUMBER:  # nor is NaN between them
            raise ValueError(f"{name}: the number is out of range")


def _shown(value: object, longest: int) -> str:
    """Return a value of a row for a terminal or a model, which must not obey it."""
    text = str(value)[: longest + 1]
    return shortened("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text), longest)


def _in_words(error: Exception) -> str:
    if isinstance(error, ValidationError):
        [first, *_] = error.errors(include_url=False)
        place, why = ".".join(map(str, first["loc"])), phrase(dict(first))
        return shortened(f"{place}: {why}" if place else why, REASON_SHOWN)
    return shortened(str(error) if type(error) is ValueError else first_line(error), REASON_SHOWN)
