"""Requests: what a caller asked for, with gaps."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from wan_mcp.schema.enums import Frozen, Kind

__all__ = ["CaptionRequest", "ImageRequest", "LoraRequest", "Request", "VideoRequest"]


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
