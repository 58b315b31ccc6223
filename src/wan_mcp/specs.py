"""The nouns that all sides share: requests, plans, jobs and artifacts.

A *request* is what a caller asked for, with gaps. A *plan* is the same with every gap filled
from a model's manifest: it is what the engine runs, what a result reports as `request`, and what
lies as a receipt in the media file. Nothing here knows MCP, SQLite or torch.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from wan_mcp.kinds import Frozen, JobState, Kind, Stage, Task

__all__ = [
    "Artifact",
    "CaptionPlan",
    "CaptionRequest",
    "Frozen",
    "ImagePlan",
    "ImageRequest",
    "InputImage",
    "Job",
    "JobError",
    "JobState",
    "Kind",
    "LoraPlan",
    "LoraRequest",
    "Plan",
    "PlanPrecision",
    "Progress",
    "Request",
    "Stage",
    "StepCache",
    "Task",
    "VideoPlan",
    "VideoRequest",
]

PlanPrecision = Literal["auto", "full"]
"""What a preset may say of the precision, and a plan hands on: full is never fewer bits than the device's own."""


class InputImage(Frozen):
    """A picture that was checked at the door and copied under the home folder, upright and in RGB."""

    sha256: str
    file: str = Field(description="Path below the home folder.")
    width: int
    height: int
    source: str = Field(description="Where it came from: a path, a wan:// address or 'data URI'.")


class LoraRequest(Frozen):
    """A low-rank adapter that a request puts on the model: a file of this machine, by name or by path."""

    name: str | None = Field(default=None, description="File in WAN_MCP_HOME/loras.")
    path: str | None = None
    scale: float = 1.0
    expert: str | None = Field(default=None, description="Only on this one.")


class _Request(Frozen):
    @classmethod
    def of(cls, parameters: Mapping[str, Any]) -> Self:
        """The request whose fields have the names of a caller's parameters; others are not the request's, None is
        left out."""
        fields = cls.model_fields
        return cls(**{name: value for name, value in parameters.items() if name in fields and value is not None})


class VideoRequest(_Request):
    """A video as somebody asked for it."""

    kind: Literal[Kind.VIDEO] = Kind.VIDEO
    prompt: str
    negative_prompt: str | None = None
    model: str | None = None
    preset: str | None = None
    image: str | None = None
    last_image: str | None = None
    resolution: str | None = None
    duration_s: float | None = None
    num_frames: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    turbo: bool | None = None
    seed: int | None = None
    style: str | None = None
    lora: tuple[LoraRequest, ...] = ()
    count: int = 1


class ImageRequest(_Request):
    """An image as somebody asked for it."""

    kind: Literal[Kind.IMAGE] = Kind.IMAGE
    prompt: str
    negative_prompt: str | None = None
    model: str | None = None
    preset: str | None = None
    image: str | None = None
    strength: float | None = None
    resolution: str | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    style: str | None = None
    lora: tuple[LoraRequest, ...] = ()
    count: int = 1


class CaptionRequest(_Request):
    """A caption as somebody asked for it."""

    kind: Literal[Kind.CAPTION] = Kind.CAPTION
    image: str
    model: str | None = None
    caption_type: str | None = None
    length: str | None = None
    prompt: str | None = None
    extra_options: tuple[str, ...] = ()
    seed: int | None = None


Request = Annotated[VideoRequest | ImageRequest | CaptionRequest, Field(discriminator="kind")]


class LoraPlan(Frozen):
    """An adapter as it was found: which file it is, by its content, and how it is put on."""

    name: str
    file: str = Field(description="Absolute path.")
    sha256: str
    scale: float
    expert: str | None = Field(description="Null for all denoisers of the model.")


class StepCache(Frozen):
    """Which passes of a denoiser are left out, with what a former one added put in their place."""

    threshold: float = Field(
        gt=0,
        lt=1,
        description="A pass is left out if its first block changes by less than this share since the last full pass.",
    )


class _GenerationPlan(Frozen):
    task: Task
    model: str
    preset: str | None = Field(default=None, description="The preset that filled the gaps of the request.")
    prompt: str = Field(description="The prompt that the model reads, style applied.")
    prompt_asked: str = Field(description="The prompt as it was asked.")
    negative_prompt: str
    style: str | None
    lora: tuple[LoraPlan, ...] = ()
    width: int
    height: int
    steps: int
    guidance_scale: float
    turbo: bool = False
    step_cache: StepCache | None = None
    precision: PlanPrecision = Field(
        default="auto", description="full: never in fewer bits than the device's own, such as FP8."
    )
    tokens: int | None = Field(default=None, description="Length of the denoiser's sequence.")
    even_at: int | None = Field(default=None, description="Tokens at which attention is as much work as the rest.")
    seed: int = Field(description="Seed of the first result; result i of a count uses seed + i.")
    count: int
    image: InputImage | None = None
    notes: tuple[str, ...] = Field(default=(), description="What was resized, cropped or fitted, in sentences.")


class VideoPlan(_GenerationPlan):
    """A video with every parameter settled."""

    kind: Literal[Kind.VIDEO] = Kind.VIDEO
    num_frames: int
    fps: float
    duration_s: float
    guidance_scale_2: float | None = None
    last_image: InputImage | None = None


class ImagePlan(_GenerationPlan):
    """An image with every parameter settled."""

    kind: Literal[Kind.IMAGE] = Kind.IMAGE
    strength: float | None = None


class CaptionPlan(Frozen):
    """A caption with every parameter settled."""

    kind: Literal[Kind.CAPTION] = Kind.CAPTION
    task: Task = Task.IMAGE_TO_TEXT
    model: str
    image: InputImage
    caption_type: str | None
    length: str | None
    prompt: str | None = Field(description="The instruction that the model reads; null where it takes none.")
    max_new_tokens: int
    extra_options: tuple[str, ...] = ()
    seed: int | None = Field(default=None, description="Of the sampling; null where the model always says the same.")
    notes: tuple[str, ...] = ()


Plan = Annotated[VideoPlan | ImagePlan | CaptionPlan, Field(discriminator="kind")]


class Artifact(Frozen):
    """A finished media file."""

    uri: str = Field(description="wan:// address, readable as an MCP resource and usable as an `image`.")
    mime_type: str
    bytes: int
    width: int
    height: int
    frames: int | None = None
    fps: float | None = None
    duration_s: float | None = None
    seed: int = Field(description="The seed that makes this very result again.")
    path: str = Field(description="Absolute path of the file on the server's machine.")


class JobError(Frozen):
    """Why a job failed."""

    code: str
    message: str


class Progress(Frozen):
    """How far a running job is; an engine writes it, everybody reads it."""

    stage: Stage
    step: int | None = Field(default=None, description="Denoising steps finished in this result.")
    steps: int | None = None
    item: int = Field(default=1, description="Which result of a count is being made, from 1.")
    items: int = 1
    fraction: float = Field(description="Done share of the whole job, 0…1.")
    eta_s: float | None = Field(default=None, description="Seconds left when this was written.")
    detail: str = Field(default="", description="What else there is to say of the stage, e.g. bytes of a download.")


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
    notes: tuple[str, ...] = Field(default=(), description="What the engine found worth saying, in sentences.")
    cancel_requested: bool = False
    device: str | None = Field(default=None, description="The device whose engine claimed it last.")
    attempt: int = Field(default=0, description="How often it was claimed; marks whose word counts.")
    deaths: int = Field(default=0, description="How many engines died over it.")
