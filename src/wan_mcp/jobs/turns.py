"""The order of the queue: clients take turns, so that one with many jobs does not hold up the others for long.

Every job gets the number of its turn when it is queued (start-time fair queueing: Goyal, Vin and Cheng, 1996): the one
after the last turn of its client, but none before the turn that is being served. Jobs are served in the order of their
turns, and jobs of one turn in the order in which they came. So between a job's arrival and its start, every other
client starts at most two jobs more than the job's own client has unfinished ones. A job keeps its turn when its engine
dies. See docs/decisions/0046-clients-take-turns.md.

An owner may change the order of its own waiting jobs. They exchange their places in the queue, so nobody else's job
starts earlier or later: docs/decisions/0061-owners-order-their-own-jobs.md.
"""

import sqlite3
from dataclasses import dataclass

from wan_mcp.errors import BadRequest, QueueFull, UnknownJob
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import COLUMNS, read_row
from wan_mcp.schema.jobs import Job
from wan_mcp.text import quoted

__all__ = ["NOBODY", "ORDER", "Asker", "line_before", "move_before", "next_turn", "require_place"]

ORDER = "turn, coalesce(place, seq), seq"
"""What queued jobs are sorted by. `place` is where a job stands that was moved: the `seq` of another of its owner's."""


@dataclass(frozen=True)
class Asker:
    """Who asks for a job, as its row keeps it (see `Job`)."""

    client: str = ""
    owner: str = ""
    output_dir: str = ""
    """The folder in which the front saves results, empty for none: see `jobs/outputs.py`."""
    notify: str = ""
    """For which setting the job's end is told to a program, empty for none: see `jobs/notices.py`."""


NOBODY = Asker()


def require_place(connection: sqlite3.Connection, asker: Asker, limit: int) -> None:
    """Refuse a job that the queue has no place for.

    A client none of whose jobs wait gets a place in a full queue as well, so that others cannot fill it up. There are
    `limit` such places at most, because a client can call itself what it likes.

    Raises:
        QueueFull: `limit` jobs or more wait.
    """
    [waiting] = connection.execute("SELECT count(*) FROM jobs WHERE state = 'queued'").fetchone()
    if waiting < limit:
        return
    queued = connection.execute(f"SELECT {COLUMNS} FROM jobs WHERE state = 'queued'")
    jobs = [job for job in map(read_row, queued) if isinstance(job, Job)]  # an unreadable row takes nobody's place
    newcomer = all((job.client, job.owner) != (asker.client, asker.owner) for job in jobs)
    if len(jobs) >= (2 * limit if newcomer and asker != NOBODY else limit):
        raise QueueFull(f"the queue is full ({len(jobs)} jobs are waiting)")


def next_turn(connection: sqlite3.Connection, asker: Asker) -> int:
    """Return the turn of the next job that `asker` queues."""
    [turn] = connection.execute(f"SELECT {_NEXT}", _named(asker)).fetchone()
    return int(turn)


def line_before(database: Database, asker: Asker) -> set[str]:
    """Return the ids of the unfinished jobs that a job of `asker` would find ahead of it."""
    rows = database.read(
        f"SELECT id FROM jobs WHERE state = 'running' OR (state = 'queued' AND turn <= {_NEXT})", **_named(asker)
    )
    return {row["id"] for row in rows}


def move_before(database: Database, job_id: str, before: str | None, owner: str) -> None:
    """Move a waiting job of `owner` before another of its waiting jobs, or behind all of them with None.

    Raises:
        UnknownJob: there is no job of one of these ids.
        BadRequest: one of them does not wait any more, or is another owner's.
    """
    with database.write() as connection:
        rows = connection.execute(
            f"SELECT id, seq, turn, coalesce(place, seq) AS place FROM jobs WHERE state = 'queued' AND owner = ?"
            f" ORDER BY {ORDER}",
            (owner,),
        ).fetchall()
        waiting = [row["id"] for row in rows]
        for each in (job_id, before):
            if each is not None and each not in waiting:
                raise _immovable(connection, each, owner)
        if job_id == before:
            return
        wanted = [each for each in waiting if each != job_id]
        wanted.insert(len(wanted) if before is None else wanted.index(before), job_id)
        for each, was, place in zip(wanted, waiting, rows, strict=True):
            if each != was:
                connection.execute(
                    "UPDATE jobs SET turn = ?, place = ? WHERE id = ?", (place["turn"], place["place"], each)
                )


def _immovable(connection: sqlite3.Connection, job_id: str, owner: str) -> UnknownJob | BadRequest:
    row = connection.execute("SELECT state, owner FROM jobs WHERE id = ?", (job_id,)).fetchone()
    if row is None:
        return UnknownJob(f"no job {quoted(job_id)}; list_jobs shows the existing jobs")
    if row["owner"] != owner:
        return BadRequest(f"job {job_id} is another owner's; only its owner can move it")
    return BadRequest(f"job {job_id} is {row['state']}; only a waiting job can be moved")


_NEXT = (
    "max(coalesce((SELECT max(turn) FROM jobs WHERE started_at IS NOT NULL), 0),"
    " coalesce((SELECT max(turn) + 1 FROM jobs WHERE client = :client AND owner = :owner"
    " AND (state = 'queued' OR started_at IS NOT NULL)), 0))"
)
"""The next turn of `:client` and `:owner`."""


def _named(asker: Asker) -> dict[str, str]:
    return {"client": asker.client, "owner": asker.owner}
