"""Requests of callers, with optional parameters left open."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from wan_mcp.schema.blanks import Form, SkipBlanks
from wan_mcp.schema.enums import Kind
from wan_mcp.schema.parameters import (
    AsFrame,
    Check,
    CliOption,
    Count,
    Frame,
    Guidance,
    Image,
    Model,
    NegativePrompt,
    Parameters,
    Pick,
    Preset,
    Prompt,
    Resolution,
    Seed,
    Steps,
    Style,
    not_asked,
)

__all__ = ["CaptionRequest", "ImageRequest", "LoraRequest", "Request", "ShotRequest", "Shots", "VideoRequest"]


class LoraRequest(Form):
    """A low-rank adapter that a request applies to the model: a file on this machine, by name or by path."""

    name: str | None = Field(default=None, description="File on the server.")
    path: str | None = None
    scale: float = 1.0
    expert: str | None = Field(default=None, description="Only this expert.")


def _shots_in_words(given: Any) -> Any:
    """Return shots with each text that stands alone as the prompt of one."""
    if not isinstance(given, list | tuple):
        return given
    return [{"prompt": shot} if isinstance(shot, str) else shot for shot in given]


class ShotRequest(Form):
    """A shot that goes on from the last frame of the one before it."""

    prompt: str


def _no_shots(shots: tuple[ShotRequest, ...]) -> bool:
    """Leave them out of a stored request, as requests were before they could be asked for."""
    return not shots


Shots = Annotated[tuple[ShotRequest, ...], SkipBlanks(ShotRequest), BeforeValidator(_shots_in_words)]

Loras = Annotated[tuple[LoraRequest, ...], SkipBlanks(LoraRequest), Field(description="LoRAs by name or path.")]


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
            description="Of a video: first, last (default) or its number.",
        ),
    ] = None
    last_image: Annotated[str | None, Field(description="Last frame; needs a start image too.")] = None
    last_image_frame: Annotated[
        str | None, AsFrame, Field(exclude_if=not_asked, description="The same; default first.")
    ] = None
    extend: Annotated[
        str | None,
        Field(exclude_if=not_asked, description="Continue this video (job id or wan:// address), in one file."),
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
    turbo: Annotated[bool | None, Field(description="Faster sparse attention, which changes the output.")] = None
    seed: Seed = None
    style: Style = None
    lora: Loras = ()
    count: Count = 1
    check: Check = None
    pick: Pick = None
    shots: Annotated[
        Shots,
        Field(
            exclude_if=_no_shots,
            description="More shots; each goes on from the last frame. One file.",
        ),
        CliOption("--shot", "Prompt of a further shot, which goes on from the last frame of the one before."),
    ] = ()


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
    check: Check = None
    pick: Pick = None


class CaptionRequest(Parameters):
    """A caption as requested."""

    kind: Literal[Kind.CAPTION] = Kind.CAPTION
    image: Annotated[str, Field(description="Image or video: path, wan:// address or data URI.")]
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
