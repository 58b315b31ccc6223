"""The check of a running job's results, in its row: that it has begun, and what it has found.

From its beginning the results count as made: a later attempt at the job checks them and makes none again. An older
version of wan-mcp does not know this and makes them again.
"""

import json
from collections.abc import Sequence
from typing import Any

from wan_mcp.errors import LeaseLost
from wan_mcp.jobs.database import Database
from wan_mcp.schema.jobs import Artifact, Job

__all__ = ["REVIEWS_ALLOWED", "begin_review", "replace_artifacts"]

REVIEWS_ALLOWED = 2  # attempts: a captioner that ends engines must not keep a finished job from its end


def begin_review(database: Database, job: Job) -> None:
    """Note that all results of a job are there, and that their check begins.

    Raises:
        LeaseLost: the row is not this attempt's any more.
    """
    _change(database, job, "reviews = reviews + 1")


def replace_artifacts(database: Database, job: Job, artifacts: Sequence[Artifact]) -> None:
    """Replace the results of a job: by the same with their checks, by one of them, or by none.

    Raises:
        LeaseLost: the row is not this attempt's any more.
    """
    rows = json.dumps([artifact.model_dump(mode="json") for artifact in artifacts])
    _change(database, job, "artifacts = :artifacts", artifacts=rows)


def _change(database: Database, job: Job, assignment: str, **values: Any) -> None:
    with database.write() as connection:
        changed = connection.execute(
            f"UPDATE jobs SET {assignment} WHERE id = :id AND attempt = :attempt AND state = 'running'",
            {"id": job.id, "attempt": job.attempt, **values},
        ).rowcount
    if not changed:
        raise LeaseLost(f"job {job.id} is not attempt {job.attempt}'s any more")
