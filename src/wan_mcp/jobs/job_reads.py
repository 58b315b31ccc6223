"""What can be read of the jobs in the table; `store` has what changes them."""

import sqlite3
from typing import NamedTuple

from wan_mcp.errors import UnreadableRow
from wan_mcp.jobs.database import Database, Remembered
from wan_mcp.jobs.evidence import Evidence
from wan_mcp.jobs.other_devices import OtherDevices
from wan_mcp.jobs.rows import COLUMNS, JobListing, UnreadableJob, is_device_name, read_row, unknown_job
from wan_mcp.jobs.turns import ORDER
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

__all__ = ["InLine", "JobReads"]


class InLine(NamedTuple):
    """An unfinished job, and what decides where it may run, and when."""

    job: Job
    evidence: Evidence
    passed: int
    """See `affinity`."""


_ROW = f"{COLUMNS}, evidence, passed"
_LINE = (
    "WITH latest (seen) AS (SELECT ?) SELECT seq, revision, "
    + ", ".join(f"iif(revision <= seen, NULL, jobs.{name}) AS {name}" for name in _ROW.replace(" ", "").split(","))
    + " FROM jobs LEFT JOIN job_changes ON job_changes.job = seq CROSS JOIN latest"
    f" WHERE jobs.state IN ('running', 'queued') ORDER BY jobs.state = 'queued', {ORDER}"
)
"""The unfinished jobs in their order; of those that are known, which did not change since, only that they are there."""


def _in_line(row: sqlite3.Row) -> InLine | None:
    """Return an unfinished job; None if its row cannot be understood."""
    job = read_row(row)
    return InLine(job, Evidence.parse(row["evidence"]), row["passed"]) if isinstance(job, Job) else None


class JobReads:
    """All that is read of jobs."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._remembered = Remembered(database)
        self._line: tuple[int, dict[tuple[int, int | None], InLine | None]] = 0, {}
        """The latest change among the unfinished jobs, and these as they were read last, by `seq` and latest change."""

    def get(self, job_id: str) -> Job:
        """Return one job.

        Raises:
            UnknownJob: there is none of that id.
            UnreadableRow: its row cannot be understood.
        """

        def read() -> list[Job | UnreadableJob]:
            return [read_row(row) for row in self.database.read(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", job_id)]

        match self._remembered.get(("job", job_id), read):
            case [Job() as job]:
                return job
            case [UnreadableJob() as unreadable]:
                raise UnreadableRow(str(unreadable))
            case _:
                raise unknown_job(job_id)

    def listed(self, state: JobState | None = None, limit: int = 20, owner: str | None = None) -> JobListing:
        """Return the newest jobs of one state or all, of one owner or all, and the unreadable rows among them."""
        rows = self.database.read(
            f"SELECT {COLUMNS} FROM jobs WHERE (:state IS NULL OR state = :state)"
            " AND (:owner IS NULL OR owner = :owner) ORDER BY seq DESC LIMIT :limit",
            state=state,
            limit=limit,
            owner=owner,
        )
        return JobListing.of(rows)

    def newest(self, state: JobState | None = None, limit: int = 20) -> list[Job]:
        """Return jobs of one state or all, newest first."""
        return self.listed(state, limit).jobs

    def unfinished(self) -> list[Job]:
        """Return running and queued jobs, in the order in which they are served."""
        return [each.job for each in self.line()]

    def line(self) -> list[InLine]:
        """Return running and queued jobs, in the order in which they are served."""

        def read() -> list[InLine]:
            latest, known = self._line
            rows = self.database.read(_LINE, latest)
            now = {(row["seq"], row["revision"]): row for row in rows}
            line = {key: known[key] if key in known and key[1] else _in_line(row) for key, row in now.items()}
            self._line = max((revision or 0 for _, revision in now), default=latest), line
            found = [each for each in line.values() if each is not None]
            return sorted(found, key=lambda each: each.job.state is JobState.QUEUED and each.evidence.waits)

        return self._remembered.get("unfinished", read)

    def has_queued(self, device: str | None = None, others: OtherDevices | None = None) -> bool:
        """Check whether a job is queued that can be claimed (by an engine of `device`, or of any)."""
        return any(
            job.state is JobState.QUEUED
            and (device is None or not (evidence.bars(device) or (others and others.take(job, evidence, device))))
            for job, evidence, _ in self.line()
        )

    def has_running(self, device: str) -> bool:
        """Check whether a job is running on a device, or was when its engine died."""
        return any(job.state is JobState.RUNNING and job.device == device for job in self.unfinished())

    def has_evidence(self) -> bool:
        """Check whether engines have died over a job that is queued, or had too little memory for it."""
        return any(job.state is JobState.QUEUED and evidence != Evidence() for job, evidence, _ in self.line())

    def devices_at_work(self) -> list[str]:
        """Return the devices whose engines have running jobs, or had when they died."""
        rows = self.database.read("SELECT DISTINCT device FROM jobs WHERE state = 'running' AND device IS NOT NULL")
        return [row["device"] for row in rows if is_device_name(row["device"])]

    def cancel_requested(self, job: Job) -> bool:
        """Check whether the cancellation of a running job was requested."""
        return any(row[0] for row in self.database.read("SELECT cancel_requested FROM jobs WHERE id = ?", job.id))

    def last_end(self, device: str) -> float | None:
        """Return when a job of a device ended last, in Unix time."""
        [row] = self.database.read("SELECT max(finished_at) FROM jobs WHERE device = ?", device)
        return None if row[0] is None else float(row[0])
