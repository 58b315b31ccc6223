"""Plans: requests with every gap filled.

A *request* is what a caller asked for, with gaps. A *plan* is the same with every gap filled
from a model's manifest: it is what the engine runs, what a result reports as `request`, and what
the media file carries as its receipt. Nothing here knows MCP, SQLite or torch.
"""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from wan_mcp.schema.enums import AttentionKernel, Frozen, Kind, PlanPrecision, RequestedPrecision, Task

__all__ = [
    "DATA_URI",
    "CaptionPlan",
    "EngineSettings",
    "ImagePlan",
    "InputImage",
    "InputVideo",
    "LoraPlan",
    "Plan",
    "Shape",
    "ShotPlan",
    "StepCache",
    "VideoPlan",
]

DATA_URI = "data URI"
"""The source of an image that came in the request itself."""


@dataclass(frozen=True)
class Shape:
    """The size of a result: pixels, and frames of a video; a still is one frame."""

    width: int
    height: int
    frames: int = 1

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        return f"{size} with {self.frames} frames" if self.frames > 1 else size


def _not_asked(value: Any) -> bool:
    """Leave it out of a stored plan, as plans were before it could be asked for."""
    return value is None


def _nothing(values: tuple[Any, ...]) -> bool:
    """Leave an empty list out of a stored plan, for the same reason."""
    return not values


class InputImage(Frozen):
    """An input image that was checked and copied into the home folder, upright and in RGB."""

    sha256: str
    file: str = Field(description="Path below the home folder.")
    width: int
    height: int
    source: str = Field(description="Its origin: a path, a wan:// address or 'data URI'.")
    frame: int | None = Field(
        default=None, exclude_if=_not_asked, description="Number of the frame, from 0, if the origin is a video."
    )

    @property
    def uri(self) -> str:
        """The address under which a request can name the copy."""
        return f"wan://inputs/{self.sha256}.png"


class InputVideo(Frozen):
    """A video that a request extends, kept in the home folder as it is."""

    sha256: str
    file: str = Field(description="Path below the home folder.")
    width: int
    height: int
    frames: int
    fps: float
    source: str = Field(description="The wan:// address of the result that it is.")


class LoraPlan(Frozen):
    """A resolved adapter: its file, its hash, and how it is applied."""

    name: str
    file: str = Field(description="Absolute path.")
    sha256: str
    scale: float
    expert: str | None = Field(description="Null for all denoisers of the model.")


class StepCache(Frozen):
    """The step cache: skipped passes of a denoiser reuse what an earlier pass added."""

    threshold: float = Field(
        gt=0,
        lt=1,
        description="A pass is skipped if its first block changes by less than this share since the last full pass.",
    )


class EngineSettings(Frozen):
    """Settings of an engine that the caller of a job set to other values than the defaults.

    The engine that runs the job may have been started with others. It follows these where it can, and otherwise adds a
    note.
    """

    device: str | None = Field(default=None, exclude_if=_not_asked)
    precision: RequestedPrecision | None = Field(default=None, exclude_if=_not_asked)
    attention: AttentionKernel | None = Field(default=None, exclude_if=_not_asked)
    compile: bool | None = Field(default=None, exclude_if=_not_asked)
    threads: int | None = Field(default=None, exclude_if=_not_asked)
    credentials: str | None = Field(
        default=None,
        exclude_if=_not_asked,
        description="SHA-256 of the certificate that is to sign the results (C2PA), in hexadecimal.",
    )


class _GenerationPlan(Frozen):
    task: Task
    model: str
    preset: str | None = Field(default=None, description="The preset that filled the gaps of the request.")
    prompt: str = Field(description="The prompt that the model reads, style applied.")
    prompt_asked: str = Field(description="The prompt as requested.")
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
        default="auto", description="full: never in fewer bits than the device's own precision, such as FP8."
    )
    tokens: int | None = Field(default=None, description="Length of the denoiser's sequence.")
    even_at: int | None = Field(default=None, description="Tokens at which attention takes as much work as the rest.")
    seed: int = Field(description="Seed of the first result; result i of a count uses seed + i.")
    count: int
    check: str | None = Field(
        default=None, exclude_if=_not_asked, description="The captioner that compares each result with the prompt."
    )
    pick: Literal["best"] | None = Field(
        default=None, exclude_if=_not_asked, description="best: only the result that fits the prompt best is kept."
    )
    image: InputImage | None = None
    notes: tuple[str, ...] = Field(default=(), description="What was resized, cropped or fitted, in sentences.")
    engine: EngineSettings | None = Field(default=None, exclude_if=_not_asked)

    @property
    def frames(self) -> int:
        """Frames of each result."""
        return 1

    @property
    def images(self) -> dict[str, InputImage]:
        """The input images, by the parameters of a request that name them."""
        return {} if self.image is None else {"image": self.image}

    @property
    def shape(self) -> Shape:
        """The size of each result."""
        return Shape(self.width, self.height, self.frames)

    @property
    def steps_run(self) -> int:
        """Denoising steps run for each result."""
        return self.steps

    @property
    def runs(self) -> int:
        """How often the model runs for the whole job."""
        return self.count

    @property
    def guided(self) -> bool:
        """True if each step has a second pass, over the negative prompt (classifier-free guidance)."""
        return self.guidance_scale > 1

    @property
    def texts(self) -> dict[str, str]:
        """The texts that the model reads, by the names of the plan's fields."""
        return {"prompt": self.prompt} | ({"negative_prompt": self.negative_prompt} if self.guided else {})


class ShotPlan(Frozen):
    """A shot that goes on from the last frame of the one before."""

    prompt: str = Field(description="The prompt that the model reads, style applied.")
    prompt_asked: str = Field(description="The prompt as requested.")
    seed: int


class VideoPlan(_GenerationPlan):
    """A video with every parameter resolved."""

    kind: Literal[Kind.VIDEO] = Kind.VIDEO
    num_frames: int = Field(description="Of each shot.")
    fps: float
    duration_s: float = Field(description="Of the whole video.")
    guidance_scale_2: float | None = None
    last_image: InputImage | None = None
    extends: InputVideo | None = Field(default=None, exclude_if=_not_asked, description="It begins with this video.")
    shots: tuple[ShotPlan, ...] = Field(default=(), exclude_if=_nothing, description="After the first one.")

    @property
    def images(self) -> dict[str, InputImage]:
        """The input images, by the parameters of a request that name them."""
        return super().images | ({} if self.last_image is None else {"last_image": self.last_image})

    @property
    def frames(self) -> int:
        """Frames that are made at once: of each shot."""
        return self.num_frames

    @property
    def total_frames(self) -> int:
        """Frames of each result: a shot begins with the last frame of the one before, which is shown once."""
        made = self.num_frames + len(self.shots) * (self.num_frames - 1)
        return made if self.extends is None else self.extends.frames + made - 1

    @property
    def runs(self) -> int:
        """How often the model runs for the whole job."""
        return self.count * (1 + len(self.shots))

    def in_shots(self) -> "list[VideoPlan]":
        """Return the plan of each shot by itself; that of a later one is to be given its first frame."""
        first = self.model_copy(update={"shots": (), "extends": None})
        later: dict[str, Any] = {"task": Task.IMAGE_TO_VIDEO, "image": None}
        return [first, *(first.model_copy(update=later | shot.model_dump()) for shot in self.shots)]


class ImagePlan(_GenerationPlan):
    """An image with every parameter resolved."""

    kind: Literal[Kind.IMAGE] = Kind.IMAGE
    strength: float | None = None

    @property
    def steps_run(self) -> int:
        """Denoising steps run for each result; with a strength, image to image starts part of the way."""
        return self.steps if self.strength is None else max(1, min(self.steps, int(self.steps * self.strength)))


class CaptionPlan(Frozen):
    """A caption with every parameter resolved.

    It has the interface of the other plans; what a caption does not have is None or neutral.
    """

    kind: Literal[Kind.CAPTION] = Kind.CAPTION
    task: Task = Task.IMAGE_TO_TEXT
    model: str
    image: InputImage
    more_frames: tuple[InputImage, ...] = Field(
        default=(), exclude_if=_nothing, description="Later frames of the same video that are looked at as well."
    )
    caption_type: str | None
    length: str | None
    prompt: str | None = Field(description="The instruction that the model reads; null if it uses none.")
    max_new_tokens: int
    extra_options: tuple[str, ...] = ()
    seed: int | None = Field(default=None, description="Seed of the sampling; null if the model is deterministic.")
    notes: tuple[str, ...] = ()
    engine: EngineSettings | None = Field(default=None, exclude_if=_not_asked)

    @property
    def images(self) -> dict[str, InputImage]:
        """The input image, by the parameter of a request that names it."""
        return {"image": self.image}

    # Not fields: a plan as it is stored has only what a caption can be asked for.
    count: ClassVar[int] = 1
    runs: ClassVar[int] = 1
    frames: ClassVar[int] = 1
    steps_run: ClassVar[int] = 1
    shape: ClassVar[None] = None
    check: ClassVar[None] = None
    pick: ClassVar[None] = None
    prompt_asked: ClassVar[None] = None
    style: ClassVar[None] = None
    turbo: ClassVar[bool] = False
    step_cache: ClassVar[None] = None
    precision: ClassVar[PlanPrecision] = "auto"


Plan = Annotated[VideoPlan | ImagePlan | CaptionPlan, Field(discriminator="kind")]
