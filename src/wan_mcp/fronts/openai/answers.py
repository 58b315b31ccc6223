"""What this API answers, as pydantic models: the OpenAPI document is made from them.

The first fields of each are OpenAI's. Those after them are ours, and its clients keep them as they are.
"""

from typing import Literal

from pydantic import Field

from wan_mcp.schema.enums import Frozen

__all__ = [
    "Answer",
    "ErrorAnswer",
    "ErrorDetail",
    "ImageData",
    "Images",
    "Model",
    "Models",
    "Video",
    "VideoDeleted",
    "VideoError",
    "VideoPage",
]


class Answer(Frozen):
    """The base of what is answered."""


class ErrorDetail(Answer):
    """Why a request is refused."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorAnswer(Answer):
    """The body of every refusal."""

    error: ErrorDetail


class VideoError(Answer):
    """Why a video failed."""

    code: str
    message: str


class Video(Answer):
    """A video job."""

    id: str
    object: Literal["video"] = "video"
    model: str
    status: Literal["queued", "in_progress", "completed", "failed"]
    progress: int = Field(ge=0, le=100)
    created_at: int
    completed_at: int | None = None
    expires_at: int | None = None
    prompt: str | None = None
    seconds: str
    size: str
    error: VideoError | None = None
    remixed_from_video_id: str | None = None
    # Ours.
    seed: int = Field(description="With the same request it makes the same video again.")
    fps: float
    num_frames: int
    results: int = Field(description="Videos of this job; more than one if another front has asked for them.")
    stage: str | None = Field(description="What the job does at present, in words.")
    queue_position: int | None = Field(description="1 for the next job to run.")
    eta_seconds: float | None = None
    notes: list[str] = Field(description="What was fitted or has no effect, in sentences.")


class VideoPage(Answer):
    """A part of the list of videos."""

    object: Literal["list"] = "list"
    data: list[Video]
    first_id: str | None = None
    last_id: str | None = None
    has_more: bool = False


class VideoDeleted(Answer):
    """The confirmation of a deletion."""

    id: str
    object: Literal["video.deleted"] = "video.deleted"
    deleted: bool


class ImageData(Answer):
    """One image."""

    b64_json: str | None = Field(default=None, exclude_if=lambda value: value is None)
    url: str | None = Field(default=None, exclude_if=lambda value: value is None)
    # Ours.
    id: str = Field(description="Usable as a file_id.")
    seed: int


class Images(Answer):
    """The images of a call."""

    created: int
    data: list[ImageData]
    output_format: Literal["png", "jpeg", "webp"]
    size: str
    background: Literal["opaque"] = "opaque"
    # Ours.
    model: str
    job_id: str
    notes: list[str]


class Model(Answer):
    """A model of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str
    # Ours.
    title: str
    tasks: list[str]
    ready: bool = Field(description="Whether its weights are on this machine.")
    fits: bool = Field(description="Whether its default job fits this machine.")
    sizes: list[str] = Field(description="The named sizes, as WIDTHxHEIGHT.")
    seconds: list[float] | None = Field(description="Shortest, default and longest video.")
    fps: float | None
    presets: list[str]


class Models(Answer):
    """All models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]
