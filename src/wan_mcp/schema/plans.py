"""The nouns that all sides share: requests, plans, jobs and artifacts.

A *request* is what a caller asked for, with gaps. A *plan* is the same with every gap filled
from a model's manifest: it is what the engine runs, what a result reports as `request`, and what
lies as a receipt in the media file. Nothing here knows MCP, SQLite or torch.
"""

from typing import Annotated, Literal

from pydantic import Field

from wan_mcp.schema.enums import Frozen, Kind, Task

__all__ = ["CaptionPlan", "ImagePlan", "InputImage", "LoraPlan", "Plan", "PlanPrecision", "StepCache", "VideoPlan"]


PlanPrecision = Literal["auto", "full"]
"""What a preset may say of the precision, and a plan hands on: full is never fewer bits than the device's own."""


class InputImage(Frozen):
    """A picture that was checked at the door and copied under the home folder, upright and in RGB."""

    sha256: str
    file: str = Field(description="Path below the home folder.")
    width: int
    height: int
    source: str = Field(description="Where it came from: a path, a wan:// address or 'data URI'.")


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
