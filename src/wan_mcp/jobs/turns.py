"""The order of the queue: clients take turns, so that one with many jobs does not hold up the others for long.

Every job gets the number of its turn when it is queued (start-time fair queueing: Goyal, Vin and Cheng, 1996): the one
after the last turn of its client, but none before the turn that is being served. Jobs are served in the order of their
turns, and jobs of one turn in the order in which they came. So between a job's arrival and its start, every other
client starts at most two jobs more than the job's own client has unfinished ones. A turn never changes, so a job keeps
its place when its engine dies. See docs/decisions/0046-clients-take-turns.md.
"""

import sqlite3
from dataclasses import dataclass

from wan_mcp.errors import QueueFull
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.rows import COLUMNS, read_row
from wan_mcp.schema.jobs import Job

__all__ = ["NOBODY", "ORDER", "Asker", "line_before", "next_turn", "require_place"]

ORDER = "turn, seq"
"""The columns by which queued jobs are sorted."""


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


_NEXT = (
    "max(coalesce((SELECT max(turn) FROM jobs WHERE started_at IS NOT NULL), 0),"
    " coalesce((SELECT max(turn) + 1 FROM jobs WHERE client = :client AND owner = :owner"
    " AND (state = 'queued' OR started_at IS NOT NULL)), 0))"
)
"""The next turn of `:client` and `:owner`."""


def _named(asker: Asker) -> dict[str, str]:
    return {"client": asker.client, "owner": asker.owner}
