"""Jobs whose end is to be told to a program of the owner's, and what has come of it so far.

A job is marked when it is queued, in the same transaction, so that no crash can lose the notice. The mark says for
which setting it is (a hash): a front runs or calls only what it was itself started with, never what the table says. The
mark is removed when the notice has arrived; a deleted job takes its mark along.
"""

import hashlib
import json
from collections.abc import Collection
from dataclasses import dataclass

from wan_mcp.jobs.database import Database

__all__ = ["DueNotice", "Notices", "key_of"]

ENDED = "state IN ('succeeded', 'failed', 'cancelled')"
AT_ONCE = 16


def key_of(on_done: str) -> str:
    """Return by what jobs are marked for a setting; an empty text for none."""
    return hashlib.sha256(on_done.encode()).hexdigest()[:16] if on_done else ""


@dataclass(frozen=True)
class DueNotice:
    """A job that has ended and whose notice is to be sent now."""

    job_id: str
    attempts: int
    """How often it has failed so far."""


class Notices:
    """The notices of one job table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, key: str, now: float, but: Collection[str] = ()) -> list[DueNotice]:
        """Return the notices of a setting that are to be sent at `now` (Unix time), the job that ended first first.

        Those of the jobs in `but` are left out.
        """
        rows = self._database.read(
            "SELECT id, max(0, coalesce(attempts, 0)) AS attempts"
            " FROM jobs LEFT JOIN notices ON notices.job = jobs.id"
            f" WHERE notify = ? AND notify != '' AND {ENDED} AND coalesce(next_at, 0) <= ?"
            " AND id NOT IN (SELECT value FROM json_each(?)) ORDER BY finished_at LIMIT ?",
            key,
            now,
            json.dumps([*but]),
            AT_ONCE,
        )
        return [DueNotice(row["id"], row["attempts"]) for row in rows]

    def note_failure(self, job_id: str, next_at: float, problem: str) -> None:
        """Note that a notice has not arrived, why, and when it is sent again (Unix time)."""
        with self._database.write() as connection:
            connection.execute(
                "INSERT INTO notices (job, attempts, next_at, problem) VALUES (?, 1, ?, ?)"
                " ON CONFLICT (job) DO UPDATE SET attempts = attempts + 1, next_at = excluded.next_at,"
                " problem = excluded.problem",
                (job_id, next_at, problem),
            )

    def end(self, job_id: str) -> None:
        """Note that a notice has arrived, or is given up; forget those of jobs that are gone."""
        with self._database.write() as connection:
            connection.execute("UPDATE jobs SET notify = '' WHERE id = ?", (job_id,))
            connection.execute("DELETE FROM notices WHERE job = ? OR job NOT IN (SELECT id FROM jobs)", (job_id,))
