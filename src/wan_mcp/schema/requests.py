"""Requests of callers, with optional parameters left open."""

from typing import Annotated, Literal

from pydantic import Field

from wan_mcp.schema.blanks import Form, SkipBlanks
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.parameters import (
    AsFrame,
    CliOption,
    Count,
    Frame,
    Guidance,
    Image,
    Model,
    NegativePrompt,
    Parameters,
    Preset,
    Prompt,
    Resolution,
    Seed,
    Steps,
    Style,
    not_asked,
)

__all__ = ["CaptionRequest", "ImageRequest", "LoraRequest", "Request", "VideoRequest"]


class LoraRequest(Form):
    """A low-rank adapter that a request applies to the model: a file on this machine, by name or by path."""

    name: str | None = Field(default=None, description="Name of a LoRA file of the server.")
    path: str | None = None
    scale: float = 1.0
    expert: str | None = Field(default=None, description="Apply to this expert only.")


Loras = Annotated[
    tuple[LoraRequest, ...], SkipBlanks(LoraRequest), Field(description="LoRAs by name or path, each with a scale.")
]


class VideoRequest(Parameters):
    """A video as requested."""

    kind: Literal[Kind.VIDEO] = Kind.VIDEO
    prompt: Prompt
    negative_prompt: NegativePrompt = None
    model: Model = None
    preset: Preset = None
    image: Image = None
    frame: Annotated[
        str | None,
        AsFrame,
        Field(
            exclude_if=not_asked,
            description="Which frame, if image is a video: first, last, or a number (-1 is the last). Default: last.",
        ),
    ] = None
    last_image: Annotated[str | None, Field(description="Last frame; needs a start image too.")] = None
    last_image_frame: Annotated[
        str | None, AsFrame, Field(exclude_if=not_asked, description="The same for last_image. Default: first.")
    ] = None
    resolution: Resolution = None
    duration_s: Annotated[
        float | None, Field(gt=0, description="Seconds, fitted to the model's frame rule."), CliOption("--duration")
    ] = None
    num_frames: Annotated[
        int | None, Field(ge=1, description="Instead of seconds; must follow the frame rule."), CliOption("--frames")
    ] = None
    steps: Steps = None
    guidance_scale: Guidance = None
    guidance_scale_2: Annotated[
        float | None, Field(ge=0, description="The same for the second of two experts."), CliOption("--guidance-2")
    ] = None
    turbo: Annotated[
        bool | None, Field(description="Faster sparse attention. Changes the output; not every model supports it.")
    ] = None
    seed: Seed = None
    style: Style = None
    lora: Loras = ()
    count: Count = 1


class ImageRequest(Parameters):
    """An image as requested."""

    kind: Literal[Kind.IMAGE] = Kind.IMAGE
    prompt: Prompt
    negative_prompt: NegativePrompt = None
    model: Model = None
    preset: Preset = None
    image: Image = None
    frame: Frame = None
    strength: Annotated[
        float | None, Field(ge=0, le=1, description="How far the start image may change: 0.3 a little, 0.9 almost all.")
    ] = None
    resolution: Resolution = None
    steps: Steps = None
    guidance_scale: Guidance = None
    seed: Seed = None
    style: Style = None
    lora: Loras = ()
    count: Count = 1


class CaptionRequest(Parameters):
    """A caption as requested."""

    kind: Literal[Kind.CAPTION] = Kind.CAPTION
    image: Annotated[str, Field(description="Image or video: local path, wan:// address of a result, or data URI.")]
    frame: Frame = None
    model: Model = None
    caption_type: Annotated[
        str | None,
        Field(coerce_numbers_to_str=True, description="Caption type (caption_types in list_resolutions)."),
        CliOption("--type", "Caption type; see caption.types in 'wan-mcp models --json'."),
    ] = None
    length: Annotated[
        str | None,
        Field(coerce_numbers_to_str=True, description="Caption length (caption_lengths in list_resolutions)."),
        CliOption(help="Caption length; see caption in 'wan-mcp models --json'."),
    ] = None
    prompt: Annotated[str | None, Field(description="Your own instruction, instead of a type and a length.")] = None
    extra_options: Annotated[
        tuple[str, ...],
        SkipBlanks(),
        Field(description="What to add (caption_options in list_resolutions), e.g. lighting, name=Ada."),
        CliOption("--option", "What to add (caption.options in 'wan-mcp models --json'), e.g. lighting or name=Ada."),
    ] = ()
    seed: Annotated[int | None, Field(ge=0, description="Another seed gives another wording. Default: 0.")] = None


Request = Annotated[VideoRequest | ImageRequest | CaptionRequest, Field(discriminator="kind")]
