"""Jobs with their artifacts, errors and progress."""

from pydantic import Field

from wan_mcp.schema.enums import Frozen, JobState, Stage
from wan_mcp.schema.plans import Plan

__all__ = ["Artifact", "Check", "Job", "JobError", "MediaFacts", "Progress"]


class MediaFacts(Frozen):
    """What a finished media file is, wherever it lies."""

    mime_type: str
    bytes: int
    width: int
    height: int
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    seed: int = Field(description="The seed that reproduces this result.")


class Check(Frozen):
    """What a captioner found when it compared a result with its prompt."""

    captioner: str
    says: str = Field(description="What the captioner said.")
    missing: tuple[str, ...] = Field(description="What the prompt names and the result does not show.")
    score: float | None = Field(description="How well it fits, 0 to 1. Null if no word of the prompt can be compared.")


class Artifact(MediaFacts):
    """A finished media file."""

    uri: str = Field(description="wan:// address, readable as an MCP resource and usable as an `image`.")
    path: str = Field(description="Absolute path of the file on the server's machine.")
    saved_as: str | None = Field(default=None, description="Absolute path of the same file in the output folder.")
    check: Check | None = Field(default=None, exclude_if=lambda check: check is None)


class JobError(Frozen):
    """The reason of a failed job."""

    code: str
    message: str


class Progress(Frozen):
    """The progress of a running job; its engine writes it, every front reads it."""

    stage: Stage
    step: int | None = Field(default=None, description="Denoising steps finished in this result.")
    steps: int | None = None
    item: int = Field(default=1, description="Number of the result being made, from 1.")
    items: int = 1
    fraction: float = Field(description="Finished share of the whole job, 0…1.")
    eta_s: float | None = Field(default=None, description="Seconds left when this was written.")
    detail: str = Field(default="", description="Further detail about the stage, e.g. bytes of a download.")


class Job(Frozen):
    """One row of the job table."""

    id: str
    request_id: str | None
    state: JobState
    plan: Plan
    created_at: float = Field(description="Unix time, seconds.")
    started_at: float | None = None
    updated_at: float | None = Field(default=None, description="When `progress` was written.")
    finished_at: float | None = None
    progress: Progress | None = None
    error: JobError | None = None
    artifacts: tuple[Artifact, ...] = ()
    caption: str | None = None
    notes: tuple[str, ...] = Field(default=(), description="Notes of the engine, in sentences.")
    cancel_requested: bool = False
    device: str | None = Field(default=None, description="Device of the engine that claimed it last.")
    attempt: int = Field(default=0, description="Number of claims; only the latest claim may write.")
    crashes: int = Field(default=0, description="Number of engines that died while running it.")
    reviews: int = Field(
        default=0, description="How often an engine has begun to check its results, which were all there then."
    )
    client: str = Field(default="", description="The program that asked for it; empty if it did not say.")
    owner: str = Field(default="", description="The name of the token that asked for it; empty for the home's user.")
    kept: bool = Field(default=False, description="True if it may not be deleted.")
    parent: str = Field(default="", description="Id of the job that it was made from; empty if none.")
    download_limit: int | None = Field(
        default=None,
        description="Bytes that it may download. Null for any number: its caller agreed to, or an older version asked.",
    )

    @property
    def is_not_to_blame(self) -> bool:
        """True if an engine that dies now does not die of it: weights come or are checked, or its results are."""
        coming = self.progress is not None and self.progress.stage in (Stage.DOWNLOAD, Stage.CHECK)
        return coming or self.reviews > 0
