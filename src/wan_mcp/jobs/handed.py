"""Jobs that another machine's job table has handed to this home, for one of its engines.

The row here is a copy that its engine works on like on any other. It belongs to one device, whose name is in the column
`client`, and is deleted when the other table has the outcome.
"""

from collections.abc import Sequence
from typing import NamedTuple

from wan_mcp.jobs.database import Database
from wan_mcp.jobs.evidence import Death
from wan_mcp.jobs.rows import COLUMNS, read_row
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job

__all__ = ["HandedJobs", "Orphan"]


class Orphan(NamedTuple):
    """A handed job whose engine died."""

    job_id: str
    death: Death


class HandedJobs:
    """The handed jobs of one device."""

    def __init__(self, database: Database, device: str) -> None:
        self._database, self._device = database, device

    def add(self, job: Job) -> None:
        """Queue a job; the claim here gets the number of the claim there (`job.attempt`)."""
        with self._database.write(durable=False) as connection:
            connection.execute(
                "INSERT OR REPLACE INTO jobs (id, request, plan, created_at, client, attempt, deaths, download_limit,"
                " state) VALUES (?, '{}', ?, ?, ?, ?, ?, ?, 'queued')",
                (
                    job.id,
                    job.plan.model_dump_json(),
                    job.created_at,
                    self._device,
                    job.attempt - 1,
                    job.crashes,
                    job.download_limit,
                ),
            )

    def all(self) -> list[Job]:
        """Return the jobs, the one that came first at the front."""
        rows = self._database.read(f"SELECT {COLUMNS} FROM jobs WHERE client = ? ORDER BY seq", self._device)
        return [job for job in map(read_row, rows) if isinstance(job, Job)]

    def queued(self) -> list[Job]:
        """Return those that wait for the engine."""
        return [job for job in self.all() if job.state is JobState.QUEUED]

    def forget(self, ids: Sequence[str]) -> list[str]:
        """Delete jobs: the other table has their outcome, or has given them to another engine.

        Returns those that were here. Others may be on another device of this home by now, with their results.
        """
        with self._database.write(durable=False) as connection:
            return [
                each
                for each in ids
                if connection.execute("DELETE FROM jobs WHERE id = ? AND client = ?", (each, self._device)).rowcount
            ]
