"""Whose jobs a caller sees and touches: an owner its own, and the home's own user all.

An owner is a name: that of a token (`service/tokens.py`), or the subject of an OAuth token. The row of each job has the
name in which it was asked for. A front says for each call in whose name it is made; `JobService` applies the rule, so
that no front has to. A job of somebody else is treated as if it did not exist.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from wan_mcp.errors import UnreadableRow
from wan_mcp.jobs.job_reads import JobReads
from wan_mcp.jobs.rows import unknown_job
from wan_mcp.schema.jobs import Job

__all__ = ["HOME_USER", "NOBODY", "acting_for", "listed_owner", "own_job", "owner_now", "owns"]

HOME_USER = ""
"""The home's own user: who runs the command line, and who has the server's own token."""
NOBODY = "?"
"""Owns nothing; no token can have this name."""

_owner: ContextVar[str] = ContextVar("_owner", default=HOME_USER)


def owner_now() -> str:
    """Return in whose name the current call is made."""
    return _owner.get()


@contextmanager
def acting_for(owner: str) -> Iterator[None]:
    """Make all calls of the block in the name of `owner`."""
    token = _owner.set(owner)
    try:
        yield
    finally:
        _owner.reset(token)


def listed_owner() -> str | None:
    """Return whose jobs a list for the current caller has; None for everybody's."""
    return None if owner_now() == HOME_USER else owner_now()


def owns(owner_of_job: str) -> bool:
    """Check whether a job of that owner is for the current caller."""
    return owner_now() in (HOME_USER, owner_of_job)


def own_job(jobs: JobReads, job_id: str) -> Job:
    """Return a job of the current caller.

    Raises:
        UnknownJob: there is none of that id for the caller.
        UnreadableRow: its row cannot be understood; only the home's user hears of it.
    """
    try:
        job = jobs.get(job_id)
    except UnreadableRow:
        if owner_now() == HOME_USER:
            raise
        raise unknown_job(job_id) from None  # whose it is cannot be read either
    if not owns(job.owner):
        raise unknown_job(job_id)
    return job
