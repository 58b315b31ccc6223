"""Homes with jobs that ended at any time, with results of any size: no engine has made them."""

from pathlib import Path

from tests.fixtures.job_table import video_plan, video_request
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.history import JobHistory
from wan_mcp.jobs.store import JobStore
from wan_mcp.media.store import MediaStore
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.service.deletion import Deletion
from wan_mcp.service.retention import DAY_S, Retention

__all__ = ["MB", "NOW", "Home"]

NOW = 1_795_867_200.0
"""Some time; tests that ask the true clock give their own."""
MB = 1_000_000


class Home:
    """A home whose jobs ended when the test says, and take as much room."""

    def __init__(self, folder: Path, now: float = NOW) -> None:
        self.today = self.now = now
        self.database = Database(folder / "jobs.db")
        self.store = JobStore(self.database, lambda: self.now)
        self.media = MediaStore(folder)
        self.history = JobHistory(self.database)
        self.retention = Retention(self.history, Deletion(self.history, self.media), self.media)

    def job(
        self,
        days_ago: float,
        mb: float = 0,
        state: JobState = JobState.SUCCEEDED,
        plan: VideoPlan | None = None,
        prompt: str = "a star",
    ) -> str:
        """Add a job that ended some days ago with a result of so many MB; return its id."""
        self.now = self.today - days_ago * DAY_S
        job = self.store.submit(video_request(prompt), plan or video_plan(prompt), None, 99)
        if state is not JobState.QUEUED:
            claimed = self.store.claim("cpu")
            assert claimed is not None
            if state is not JobState.RUNNING:
                self.store.finish(claimed, state)
        if mb:
            file = self.media.home / "media" / "videos" / f"{job.id}-0.mp4"
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as content:
                content.truncate(int(mb * MB))
        return job.id

    def expired(self, days: float = 0, gb: float = 0, fresh_s: float = 0) -> list[str]:
        return [each.job.id for each in self.retention.expired(days, gb, now=self.today, fresh_s=fresh_s)]

    def ids(self) -> set[str]:
        return self.history.ids()
