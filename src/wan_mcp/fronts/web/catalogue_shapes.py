"""The shapes of the catalogue: everything that can be chosen on the page."""

from typing import Literal

from wan_mcp.fronts.web.shapes import Shape
from wan_mcp.schema.enums import Kind, Task

__all__ = [
    "CaptionChoices",
    "Catalogue",
    "FrameChoices",
    "Licence",
    "Lora",
    "MachineCard",
    "ModelCard",
    "Preset",
    "Range",
    "Size",
    "SizeChoices",
    "Style",
]


class Range(Shape):
    """A number that may be chosen."""

    smallest: float
    largest: float
    default: float


class Size(Shape):
    """A named size."""

    name: str
    width: int
    height: int
    aspect: float


class SizeChoices(Shape):
    """The sizes of a model."""

    default: str
    named: list[Size]
    free: bool
    """True if WIDTHxHEIGHT is allowed too, in multiples of `multiple`, up to `max_pixels` pixels."""
    multiple: int
    max_pixels: int | None


class FrameChoices(Shape):
    """The lengths of a model's videos: `multiple` · k + `offset` frames, within bounds."""

    multiple: int
    offset: int
    smallest: int
    largest: int
    default: int
    fps: float
    shortest_s: float
    longest_s: float
    words: str


class Preset(Shape):
    """A quality preset."""

    name: str
    model: str | None
    """The model that serves it, if another one does."""
    values: dict[str, float]
    turbo: bool
    seconds: float | None
    """The usual time of a default job; None while nothing was measured."""


class CaptionChoices(Shape):
    """What a captioner can be asked for; the first of each is the default."""

    types: list[str]
    lengths: list[str]
    words: tuple[int, int] | None
    """Bounds of a number of words, which may be asked for instead of a length."""
    options: list[str]
    """One that ends with =… needs a value."""
    own_prompt: bool


class Licence(Shape):
    """The licence of a model's weights."""

    id: str
    url: str | None
    gated: bool
    conditions: str | None


class ModelCard(Shape):
    """A model, and what of it can be chosen. What is None or not in `offers` is not offered."""

    name: str
    title: str
    summary: str
    group: Literal["here", "fits", "too_large"]
    """here: its weights are on this machine, and it fits; fits: it needs a download first."""
    default_for: list[Kind]
    tasks: list[Task]
    kinds: list[Kind]
    licence: Licence
    embedded: bool
    disk_bytes: int
    download_bytes: int
    """0 if nothing has to come."""
    misfit: str | None
    offers: dict[Kind, list[str]]
    """The parameters of a job of each kind that make sense with this model."""
    image_required: list[Kind]
    """The kinds that it makes of a picture only."""
    sizes: SizeChoices | None
    frames: FrameChoices | None
    steps: Range | None
    guidance_scale: Range | None
    guidance_scale_2: Range | None
    strength: Range | None
    negative_prompt: str | None
    prompt_characters: int
    loras: int
    """The most in one job."""
    experts: list[str]
    turbo: bool
    presets: list[Preset]
    caption: CaptionChoices | None
    seconds: dict[Task, float]
    """The usual time of a default job, as far as measured."""


class Style(Shape):
    """A style; {prompt} in its words is where the prompt goes."""

    name: str
    words: str


class Lora(Shape):
    """An adapter in the home's own folder."""

    name: str
    bytes: int


class MachineCard(Shape):
    """What jobs run on."""

    name: str
    memory_bytes: int | None


class Catalogue(Shape):
    """Everything that can be chosen."""

    version: str
    machine: MachineCard | None
    default_models: dict[Kind, str]
    models: list[ModelCard]
    broken: dict[str, str]
    styles: list[Style]
    loras: list[Lora]
    max_count: int
    max_shots: int
    max_seed: int
    image_max_bytes: int
    image_max_megapixels: float
    auto_download: bool
