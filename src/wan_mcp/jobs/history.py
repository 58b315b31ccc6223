"""The jobs as their users look back on them: found again, followed, kept, and deleted.

Engines know nothing of this. A job that is deleted leaves a row in `job_changes`, so that those who follow all jobs
hear of it, and so that its files are removed even if the process that deletes it dies between the two.
"""

import sqlite3
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from wan_mcp.errors import BadRequest, UnknownJob
from wan_mcp.jobs.asked import request_in
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import COLUMNS, JobListing, readable, unknown_job
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import Request
from wan_mcp.text import folded, quoted

__all__ = ["JobChanges", "JobHistory", "Wanted"]

TOMBSTONES = 10_000  # deleted jobs that are remembered, for those who follow all jobs
WORDS = 32  # of a search
SEARCHED = (
    "folded(CASE WHEN json_valid(plan) THEN json_extract(plan, '$.model') || ' '"
    " || coalesce(json_extract(plan, '$.prompt_asked'), '') ELSE '' END || ' ' || coalesce(caption, '') || ' ' || id)"
)


@dataclass(frozen=True)
class JobChanges:
    """What has changed since a cursor."""

    jobs: JobListing
    """The jobs that were added or changed, the one that changed first at the front."""
    deleted: list[str]
    """Ids of deleted jobs."""
    cursor: int
    """Where the next look begins."""
    more: bool = False
    """True if more has changed than was asked for."""
    restarted: bool = False
    """True if the cursor is none of this table's, because it was replaced: followers must read all jobs again."""
    owners_of_deleted: Mapping[str, str] = field(default_factory=dict)
    """By the ids of those that had an owner."""


class Wanted(TypedDict, total=False):
    """Which jobs are wanted, as `JobHistory.find` takes it."""

    kind: Kind | None
    model: str | None
    states: Collection[JobState]
    kept: bool | None
    owner: str | None
    before: str | None
    since: float | None
    until: float | None
    limit: int
    oldest_first: bool


class JobHistory:
    """What can be asked of jobs, and done with those that have ended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def find(
        self,
        query: str | None = None,
        *,
        kind: Kind | None = None,
        model: str | None = None,
        states: Collection[JobState] = (),
        kept: bool | None = None,
        owner: str | None = None,
        before: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int = 20,
        oldest_first: bool = False,
    ) -> JobListing:
        """Return matching jobs, newest first unless they are wanted the other way round.

        Args:
            query: Words that all occur in its prompt, caption, model or id, in any order, in capitals or not.
            kind: The kind of result.
            model: The name of the model.
            states: Any of these; none for all.
            kept: Only those that are kept, or only those that are not.
            owner: Only this owner's.
            before: A job's id: only older ones, or only newer ones with `oldest_first`.
            since: Only those submitted at this Unix time or later.
            until: Only those submitted before this Unix time.
            limit: The most to return.
            oldest_first: The order.

        Raises:
            UnknownJob: there is no job `before`.
        """
        values: dict[str, str | float] = {"limit": limit + 1}
        wanted = ["1"]

        def require(condition: str, name: str, value: str | float) -> None:
            wanted.append(condition)
            values[name] = value

        for number, word in enumerate(folded(query).split()[:WORDS]):
            require(f"instr({SEARCHED}, :word{number})", f"word{number}", word)
        if kind is not None:
            require("CASE WHEN json_valid(plan) THEN json_extract(plan, '$.kind') = :kind END", "kind", kind.value)
        if model is not None:
            require("CASE WHEN json_valid(plan) THEN json_extract(plan, '$.model') = :model END", "model", model)
        if kept is not None:
            require("kept = :kept", "kept", int(kept))
        if owner is not None:
            require("owner = :owner", "owner", owner)
        if before is not None:
            require("seq > :before" if oldest_first else "seq < :before", "before", self._place_of(before, owner))
        if since is not None:
            require("created_at >= :since", "since", since)
        if until is not None:
            require("created_at < :until", "until", until)
        if states:
            names = {f"state{number}": state.value for number, state in enumerate(states)}
            wanted.append(f"state IN ({', '.join(f':{name}' for name in names)})")
            values |= names
        order = "seq" if oldest_first else "seq DESC"
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM jobs WHERE {' AND '.join(wanted)} ORDER BY {order} LIMIT :limit", **values
        )
        return JobListing.of(rows[:limit], rows[limit - 1]["id"] if len(rows) > limit else None)

    def _place_of(self, job_id: str, owner: str | None) -> int:
        """Return the place of a job, even if it was deleted, in the order of submission."""
        rows = self._database.read(
            "SELECT seq FROM jobs WHERE id = :id AND (:owner IS NULL OR owner = :owner)"
            " UNION SELECT job FROM job_changes LEFT JOIN owners_of_deleted USING (job)"
            " WHERE id = :id AND deleted AND (:owner IS NULL OR owner = :owner)",
            id=job_id,
            owner=owner,
        )
        if not rows:
            raise UnknownJob(f"no job {quoted(job_id)}; 'before' is the id of a listed job")
        return int(rows[0][0])

    def cursor(self) -> int:
        """Return the cursor of now: what changes later is after it."""
        rows = self._database.read("SELECT seq FROM sqlite_sequence WHERE name = 'job_changes'")
        return int(rows[0][0]) if rows else 0

    def changed_since(self, cursor: int, limit: int = 200, owner: str | None = None) -> JobChanges:
        """Return which jobs (of one owner, or all) were added, changed or deleted since `cursor`, as they are now."""
        if cursor > (now := self.cursor()):
            return JobChanges(JobListing([], []), [], now, restarted=True)
        changes = self._database.read(
            "SELECT revision, job_changes.job, id, deleted, coalesce(owner, '') AS owner FROM job_changes"
            " LEFT JOIN owners_of_deleted USING (job) WHERE revision > :cursor ORDER BY revision LIMIT :limit",
            cursor=cursor,
            limit=limit + 1,
        )
        seen = changes[:limit]
        places = [change["job"] for change in seen if not change["deleted"]]
        rows = self._database.read(
            f"SELECT seq, {COLUMNS} FROM jobs WHERE seq IN ({', '.join('?' * len(places))})", *places
        )
        by_place = {row["seq"]: row for row in rows}
        gone = {each["id"]: each["owner"] for each in seen if each["deleted"] and owner in (None, each["owner"])}
        return JobChanges(
            JobListing.of(
                by_place[place] for place in places if place in by_place and owner in (None, by_place[place]["owner"])
            ),
            list(gone),
            seen[-1]["revision"] if seen else cursor,
            more=len(changes) > limit,
            owners_of_deleted={job_id: of for job_id, of in gone.items() if of},
        )

    def keep(self, job_id: str, kept: bool) -> Job:
        """Mark a job as kept, so that nothing deletes it; or remove the mark.

        Raises:
            UnknownJob: there is none of that id.
            UnreadableRow: its row cannot be understood.
        """
        with self._database.write() as connection:
            row = connection.execute(
                f"UPDATE jobs SET kept = ? WHERE id = ? RETURNING {COLUMNS}", (int(kept), job_id)
            ).fetchone()
            if row is None:
                raise unknown_job(job_id)
            return readable(row)

    def ended(self) -> list[Job]:
        """Return the jobs that have ended and are not kept, the one that ended first at the front."""
        rows = self._database.read(
            f"SELECT {COLUMNS} FROM jobs WHERE state IN ('succeeded', 'failed', 'cancelled') AND NOT kept"
            " ORDER BY finished_at, seq"
        )
        return JobListing.of(rows).jobs

    def ids(self) -> set[str]:
        """Return the ids of all jobs, those included that cannot be read."""
        return {str(row["id"]) for row in self._database.read("SELECT id FROM jobs")}

    def delete(self, job_id: str) -> Job:
        """Delete a job that has ended, and return it. Its files are to be removed next: see `with_files_left`.

        Raises:
            UnknownJob: there is none of that id.
            UnreadableRow: its row cannot be understood.
            BadRequest: it has not ended, is kept, or another job needs it.
        """
        with self._database.write() as connection:
            row = connection.execute(f"SELECT seq, {COLUMNS} FROM jobs WHERE id = ?", (job_id,)).fetchone()
            if row is None:
                raise unknown_job(job_id)
            job = readable(row)
            _require_free(job, connection)
            connection.execute("DELETE FROM jobs WHERE seq = ?", (row["seq"],))
            connection.execute("UPDATE job_changes SET files_left = 1 WHERE job = ?", (row["seq"],))
            return job

    def with_files_left(self) -> list[str]:
        """Return the ids of deleted jobs whose files were perhaps not removed yet."""
        return [row["id"] for row in self._database.read("SELECT id FROM job_changes WHERE files_left")]

    def note_files_removed(self, job_id: str) -> None:
        """Note that nothing is left of a deleted job, and forget those that were deleted long ago."""
        with self._database.write(durable=False) as connection:  # if this is lost, they are looked for again
            connection.execute("UPDATE job_changes SET files_left = 0 WHERE id = ?", (job_id,))
            connection.execute(
                "DELETE FROM job_changes WHERE deleted AND NOT files_left"
                " AND revision < (SELECT max(revision) FROM job_changes) - ?",
                (TOMBSTONES,),
            )
            connection.execute("DELETE FROM owners_of_deleted WHERE job NOT IN (SELECT job FROM job_changes)")

    def asked(self, job_id: str) -> Request | None:
        """Return what the caller of a job asked for, with hashes in place of long texts; None if that is unreadable."""
        rows = self._database.read("SELECT request FROM jobs WHERE id = ?", job_id)
        return request_in(rows[0]["request"]) if rows else None

    def plans(self) -> str:
        """Return the plans of all jobs, as one text."""
        return "\n".join(row["plan"] for row in self._database.read("SELECT plan FROM jobs"))


def _require_free(job: Job, connection: sqlite3.Connection) -> None:
    if not job.state.final:
        raise BadRequest(f"job {job.id} is {job.state}; stop it with cancel_job first, then delete it")
    if job.kept:
        raise BadRequest(f"job {job.id} is kept; only a job that is not kept can be deleted (keep_job with kept=false)")
    user = connection.execute(
        "SELECT id, state FROM jobs WHERE state IN ('queued', 'running') AND instr(plan, :id)", {"id": job.id}
    ).fetchone()
    if user is not None:
        raise BadRequest(
            f"job {job.id} is the input of job {user['id']}, which is {user['state']}; "
            "delete it when that job has ended, or cancel that job first"
        )
