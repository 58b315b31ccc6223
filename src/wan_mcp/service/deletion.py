"""Deletion of jobs with their files, whole even if the process that deletes dies half way.

The row goes first: no job ever names files that are gone. What is left of the files is removed at the next start.
"""

import logging
import time

from wan_mcp.errors import HomeUnusable
from wan_mcp.jobs.history import JobHistory
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.jobs import Job

__all__ = ["Deletion"]

log = logging.getLogger(__name__)


class Deletion:
    """What removes jobs from a home."""

    def __init__(self, history: JobHistory, media: MediaStore) -> None:
        self._history, self._media = history, media

    def delete(self, job_id: str) -> Job:
        """Delete a job that has ended, with its files, and return it.

        Raises:
            UnknownJob: there is none of that id.
            UnreadableRow: its row cannot be understood.
            BadRequest: it has not ended, is kept, or another job needs it.
        """
        job = self._history.delete(job_id)
        self.finish()
        return job

    def finish(self) -> None:
        """Remove the files of deleted jobs, also of those that another process could not finish, and unused inputs."""
        try:
            for job_id in self._history.with_files_left():
                self._media.remove_results(job_id)
                self._history.note_files_removed(job_id)
            self._media.remove_unused_inputs(self._history.plans, time.time())
        except (HomeUnusable, OSError) as error:  # the jobs are gone, and the next start tries again
            log.warning("files of deleted jobs are left for the next start: %s", error)
