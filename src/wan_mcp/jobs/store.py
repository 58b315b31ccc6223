"""The jobs in the table: every change of state is one statement here, and nowhere else.

Fronts submit, cancel and read; engines claim, report and finish. An engine may write only while the row still carries
its `attempt`, so one that was given up for dead cannot overwrite the work of the next.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

from wan_mcp.errors import LeaseLost
from wan_mcp.jobs.asked import kept, request_key, same_request
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.evidence import Death, Evidence
from wan_mcp.jobs.job_ids import new_job_id
from wan_mcp.jobs.job_reads import JobReads
from wan_mcp.jobs.other_devices import OtherDevices, asked_devices
from wan_mcp.jobs.rows import COLUMNS, UnreadableJob, read_row, readable
from wan_mcp.jobs.turns import NOBODY, ORDER, Asker, next_turn, require_place
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Artifact, Job, JobError, Progress
from wan_mcp.schema.plans import Plan
from wan_mcp.schema.requests import Request

__all__ = ["JobStore"]

DOWNLOADS_ALLOWED = 20  # attempts at a job in whose download an engine died


class JobStore(JobReads):
    """All operations on jobs."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        super().__init__(database)
        self._clock = clock

    # What fronts do.

    def submit(
        self,
        request: Request,
        plan: Plan,
        request_id: str | None,
        queue_limit: int,
        settings: str | None = None,
        *,
        asker: Asker = NOBODY,
        parent: str = "",
        download_limit: int | None = None,
    ) -> Job:
        """Queue a job; a repeated `request_id` returns the job that it started.

        `settings` is the `settings_key` of the front that asks; see `Job` for `parent` and `download_limit`.

        Raises:
            QueueFull: no place is left for this asker.
            BadRequest: `request_id` was used for another request.
        """
        key = request_key(request_id, asker.owner)
        with self.database.write() as connection:
            if key is not None:
                row = connection.execute(f"SELECT {COLUMNS}, request FROM jobs WHERE request_id = ?", (key,)).fetchone()
                if row is not None:
                    return same_request(row, request)
            require_place(connection, asker, queue_limit)
            who = (asker.client, asker.owner, asker.output_dir, asker.notify)
            how = (parent, next_turn(connection, asker), download_limit)
            what = (new_job_id(), key, kept(request), plan.model_dump_json(), self._clock(), settings)
            row = connection.execute(
                "INSERT INTO jobs (id, request_id, request, plan, created_at, settings, client, owner, output_dir,"
                f" notify, parent, turn, download_limit, state) VALUES ({'?, ' * 13} 'queued') RETURNING {COLUMNS}",
                (*what, *who, *how),
            ).fetchone()
            return readable(row)

    def attached(self, request: Request, request_id: str, owner: str = "") -> Job | None:
        """Return the job that `request_id` started in the name of `owner`, or None.

        Raises:
            BadRequest: it was used for another request.
            UnreadableRow: its row cannot be understood.
        """
        key = request_key(request_id, owner)
        rows = self.database.read(f"SELECT {COLUMNS}, request FROM jobs WHERE request_id = ?", key)
        return same_request(rows[0], request) if rows else None

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop: a queued one is cancelled at once, a running one by its engine.

        Raises:
            UnknownJob: there is none of that id.
            UnreadableRow: its row cannot be understood; a queued one is cancelled all the same.
        """
        with self.database.write() as connection:
            connection.execute(
                "UPDATE jobs SET cancel_requested = 1,"
                " finished_at = CASE state WHEN 'queued' THEN :now END,"
                " state = CASE state WHEN 'queued' THEN 'cancelled' ELSE state END"
                " WHERE id = :id AND state IN ('queued', 'running')",
                {"id": job_id, "now": self._clock()},
            )
        return self.get(job_id)

    def fail_queued(
        self, error: JobError, settings: str | None = None, asking_for: Collection[str] | None = None
    ) -> int:
        """Fail queued jobs, because no engine can start; return their number.

        With `settings`, only those of fronts with that `settings_key`, and those that nobody claims as their own; with
        `asking_for`, only those that asked for some of these devices and no other.
        """
        failed = 0
        with self.database.write() as connection:
            rows = connection.execute(
                f"SELECT seq, {COLUMNS} FROM jobs WHERE state = 'queued'"
                " AND (:settings IS NULL OR settings IS NULL OR settings = :settings)",
                {"settings": settings},
            ).fetchall()
            for row in rows:
                job = read_row(row)
                if not isinstance(job, Job):
                    continue
                asked = set(asked_devices(job))
                if asking_for is None or (asked and asked <= set(asking_for)):
                    failed += self._fail(connection, row["seq"], error)
        return failed

    def fail_hopeless(self, devices: Collection[str]) -> list[Job]:
        """Fail the queued jobs that no engine of these devices can run, by what their evidence says; return them."""
        if not any(job.state is JobState.QUEUED and evidence.fails(devices) for job, evidence, _ in self.line()):
            return []
        failed = []
        with self.database.write() as connection:
            rows = connection.execute(f"SELECT seq, {COLUMNS}, evidence FROM jobs WHERE state = 'queued'").fetchall()
            for row in rows:
                job, reason = read_row(row), Evidence.parse(row["evidence"]).fails(devices)
                if isinstance(job, Job) and reason is not None:
                    self._fail(connection, row["seq"], _died(reason))
                    failed.append(job)
        return failed

    def _fail(self, connection: sqlite3.Connection, seq: int, error: JobError) -> int:
        return connection.execute(
            "UPDATE jobs SET state = 'failed', error = ?, finished_at = ? WHERE seq = ? AND state = 'queued'",
            (error.model_dump_json(), self._clock(), seq),
        ).rowcount

    # What engines do.

    def claim(
        self,
        device: str,
        *,
        except_models: Sequence[str] = (),
        engine: str | None = None,
        others: OtherDevices | None = None,
        only: str | None = None,
        passed: Sequence[str] = (),
    ) -> Job | None:
        """Claim the next queued job that is not for these models nor `others`, for an engine of that identity.

        With `only`, claim no other than the job of that id, which passes by those of the ids in `passed`.
        """
        waiting: int | None = None
        with self.database.write(durable=False) as connection:  # a claim lost to a power cut is a queued job
            rows = connection.execute(
                f"SELECT seq, {COLUMNS}, evidence FROM jobs WHERE state = 'queued' ORDER BY {ORDER}"
            )
            for candidate in rows:
                job, evidence = read_row(candidate), Evidence.parse(candidate["evidence"])
                if isinstance(job, UnreadableJob) or job.plan.model in except_models or evidence.bars(device):
                    continue
                if only not in (None, job.id):
                    continue
                if others and others.take(job, evidence, device):
                    continue
                waiting = candidate["seq"] if waiting is None or not evidence.waits else waiting
                if not evidence.waits:
                    break
            rows.close()
            if waiting is None:
                return None
            row = connection.execute(
                "UPDATE jobs SET state = 'running', device = :device, engine = :engine, attempt = attempt + 1,"
                " progress = NULL, artifacts = CASE WHEN reviews THEN artifacts ELSE '[]' END,"
                " notes = CASE WHEN reviews THEN notes ELSE '[]' END, started_at = coalesce(started_at, :now),"
                f" updated_at = :now WHERE seq = :seq RETURNING {COLUMNS}",
                {"device": device, "engine": engine, "now": self._clock(), "seq": waiting},
            ).fetchone()
            connection.executemany(
                "UPDATE jobs SET passed = passed + 1 WHERE id = ? AND state = 'queued'", [(each,) for each in passed]
            )
            return readable(row)

    def report(self, job: Job, progress: Progress) -> bool:
        """Write the progress of a running job; return whether its cancellation was requested.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        return self._change(
            job,
            "progress = :progress, updated_at = :now",
            progress=progress.model_dump_json(),
            now=self._clock(),
            durable=False,
        )

    def add_artifact(self, job: Job, artifact: Artifact) -> None:
        """Add a finished file to a running job.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        self._change(
            job,
            "artifacts = json_insert(artifacts, '$[#]', json(:artifact))",
            artifact=artifact.model_dump_json(),
            durable=False,
        )

    def add_note(self, job: Job, note: str) -> None:
        """Add a sentence that the caller should know to a running job.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        self._change(job, "notes = json_insert(notes, '$[#]', :note)", note=note, durable=False)

    def finish(self, job: Job, state: JobState, *, error: JobError | None = None, caption: str | None = None) -> None:
        """End a running job.

        Raises:
            LeaseLost: the row is not this attempt's any more.
        """
        self._change(
            job,
            "state = :state, error = :error, caption = :caption, finished_at = :now",
            state=state.value,
            error=error.model_dump_json() if error else None,
            caption=caption,
            now=self._clock(),
        )

    def release(self, job: Job, *, too_large_for: str | None = None) -> None:
        """Return a running job to its old place in the queue: its engine exits normally, or has downloaded its weights.

        Or, with `too_large_for`, that device has too little memory. A job whose cancellation was requested is cancelled
        instead.
        """
        rows = self.database.read("SELECT evidence FROM jobs WHERE id = ?", job.id)
        evidence = Evidence.parse(rows[0]["evidence"] if rows else None)
        self._change(
            job,
            "state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'queued' END, progress = NULL,"
            " finished_at = CASE WHEN cancel_requested THEN :now END, evidence = coalesce(:evidence, evidence)",
            now=self._clock(),
            evidence=str(evidence.without_room_on(too_large_for)) if too_large_for else None,
            durable=False,
        )

    def _change(self, job: Job, assignments: str, *, durable: bool = True, **values: Any) -> bool:
        with self.database.write(durable=durable) as connection:
            row = connection.execute(
                f"UPDATE jobs SET {assignments} WHERE id = :id AND attempt = :attempt AND state = 'running'"
                " RETURNING cancel_requested",
                {"id": job.id, "attempt": job.attempt, **values},
            ).fetchone()
        if row is None:
            raise LeaseLost(f"job {job.id} is not attempt {job.attempt}'s any more")
        return bool(row[0])

    # What a process does that finds an engine dead, holding that device's lock.

    def requeue_orphans(
        self,
        device: str,
        death_of: Callable[[str | None], Death] = lambda engine: Death.CRASHED,
        devices: Collection[str] | None = None,
        only: str | None = None,
    ) -> list[Job]:
        """Requeue or fail the jobs that a dead engine left running (with `only`, that of this id), and return them.

        A job goes back to its place in the queue: generation is deterministic, so the repeat gives the same result. It
        fails when its evidence says that no engine of `devices` (those that live or can be started; by default only
        `device`) can run it; `death_of` returns how the engine of an identity died. A job whose weights were coming or
        being checked is not to blame.
        """
        settled: list[sqlite3.Row] = []
        with self.database.write() as connection:
            rows = connection.execute(
                f"SELECT seq, {COLUMNS}, evidence, engine FROM jobs WHERE state = 'running' AND device = :device"
                " AND (:only IS NULL OR id = :only)",
                {"device": device, "only": only},
            ).fetchall()
            for row in rows:
                job, evidence, deaths = read_row(row), Evidence.parse(row["evidence"]), row["deaths"]
                if isinstance(job, UnreadableJob):
                    continue  # a newer version's, which will find it
                if not job.is_not_to_blame or job.attempt >= DOWNLOADS_ALLOWED:
                    evidence, deaths = evidence.after(death_of(row["engine"]), device), deaths + 1
                reason = None if deaths == row["deaths"] else evidence.fails(devices or (device,))
                state = JobState.CANCELLED if job.cancel_requested else JobState.FAILED if reason else JobState.QUEUED
                values = {
                    "seq": row["seq"],
                    "state": state,
                    "deaths": deaths,
                    "evidence": str(evidence),
                    "error": _died(reason).model_dump_json() if reason and state is JobState.FAILED else None,
                    "finished_at": self._clock() if state.final else None,
                }
                settled += connection.execute(
                    "UPDATE jobs SET state = :state, deaths = :deaths, evidence = :evidence, error = :error,"
                    f" finished_at = :finished_at, progress = NULL WHERE seq = :seq RETURNING {COLUMNS}",
                    values,
                ).fetchall()
        return [job for job in map(read_row, settled) if isinstance(job, Job)]


def _died(reason: str) -> JobError:
    return JobError(
        code="engine_died",
        message=f"{reason}; try a smaller size, fewer frames or another model. The engine's log has the details.",
    )
