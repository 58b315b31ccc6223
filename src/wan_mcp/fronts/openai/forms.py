"""What callers of this API send, as pydantic models: they check requests, and the OpenAPI document is made from them.

The names are OpenAI's, and for the rest those of SGLang and vLLM-Omni, which serve the same API. What neither has is
named as in the tools. Unknown fields are refused, as OpenAI does.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from wan_mcp.schema.enums import Frozen
from wan_mcp.schema.requests import LoraRequest

__all__ = [
    "UPLOADS",
    "CreateImage",
    "CreateVideo",
    "EditImage",
    "ExtendVideo",
    "ListVideos",
    "OneVideo",
    "PictureOf",
    "Reference",
    "RemixVideo",
    "VideoContent",
]

UPLOADS = frozenset({"input_reference", "last_frame", "image", "mask", "video"})
"""Fields that may be a file of a multipart body."""
TEXT = 200  # characters of a name or a size
MAX_SIDE = 16_384
MAX_INT = 2**63 - 1


class Reference(Frozen):
    """A picture: its URL, or the id of an earlier result."""

    image_url: str | None = Field(
        default=None, description="A data URI, the URL of a result of this server, or its wan:// address."
    )
    file_id: str | None = Field(default=None, max_length=TEXT, description="Id of a result: video_… or image_….")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.image_url is None) == (self.file_id is None):
            raise ValueError("give either image_url or file_id")
        return self


PictureOf = Annotated[
    Reference | Annotated[str, Field(min_length=1)] | None,
    Field(description="A picture: a file in a multipart body, a reference, or the URL alone."),
]
FrameOf = Annotated[
    Annotated[str, Field(pattern=r"^([Ff]irst|[Ll]ast|[+-]?[0-9]{1,9})$")]
    | Annotated[int, Field(ge=-999_999_999, le=999_999_999)]
    | None,
    Field(description="Which frame, if the picture is a video: first, last, or its number from 0; -1 is the last."),
]
Seconds = Annotated[
    Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
    | Annotated[str, Field(pattern=r"^[0-9]{1,5}(\.[0-9]{1,6})?$")]
    | None,
    Field(description="Length of the video; every length that the model makes, not only 4, 8 and 12."),
]


def _whole(given: Any) -> Any:
    """Return a number without a fraction as an integer, which it is in JSON: 17.0."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


FromFloat = BeforeValidator(_whole)
Whole = Annotated[int, FromFloat, Field(ge=0, le=MAX_INT)]
Number = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Name = Annotated[str, Field(max_length=TEXT)]


class _Generation(Frozen):
    """What requests of videos and images have in common."""

    model: Name | None = Field(default=None, description="Name of a model of this server; see GET /v1/models.")
    size: Name | None = Field(
        default=None, description="WIDTHxHEIGHT or the name of a size of the model. auto: its default."
    )
    seed: Whole | None = Field(default=None, description="Default: random, and reported.")
    negative_prompt: str | None = None
    num_inference_steps: Whole | None = None
    guidance_scale: Number | None = None
    preset: Literal["draft", "standard", "best"] | None = None
    style: Name | None = None
    lora: tuple[LoraRequest, ...] | None = None
    user: str | None = Field(default=None, description="Accepted and not used: this server has one owner.")


class _VideoParameters(_Generation):
    """The parameters of videos."""

    input_reference: PictureOf = None
    reference_url: str | None = Field(default=None, min_length=1, description="SGLang's name for a picture's URL.")
    image_reference: Reference | None = Field(default=None, description="vLLM-Omni's name for a picture's reference.")
    frame: FrameOf = None
    last_frame: PictureOf = None
    last_image_frame: FrameOf = None
    seconds: Seconds = None
    num_frames: Whole | None = None
    fps: Number | None = Field(default=None, description="Only the model's own is accepted.")
    flow_shift: Number | None = Field(default=None, description="Only the model's own is accepted.")
    boundary_ratio: Number | None = Field(default=None, description="Only the model's own is accepted.")
    width: Annotated[int, FromFloat, Field(ge=1, le=MAX_SIDE)] | None = None
    height: Annotated[int, FromFloat, Field(ge=1, le=MAX_SIDE)] | None = None
    guidance_scale_2: Number | None = None
    turbo: bool | None = None


class CreateVideo(_VideoParameters):
    """A video as requested."""

    prompt: str = Field(min_length=1)


class RemixVideo(_VideoParameters):
    """Another video with the parameters of an earlier one, except those given here."""

    prompt: str = Field(min_length=1)


class OneVideo(Frozen):
    """A reference to an earlier video."""

    id: str = Field(max_length=TEXT)


class ExtendVideo(Frozen):
    """A continuation of an earlier video."""

    prompt: str = Field(min_length=1)
    seconds: Seconds = None
    video: OneVideo
    seed: Whole | None = None


def _no_stream(asked: bool) -> bool:
    if asked:
        raise ValueError("images are not streamed here; omit stream")
    return asked


NoStream = Annotated[bool, AfterValidator(_no_stream), WithJsonSchema({"type": "boolean", "enum": [False]})]


class CreateImage(_Generation):
    """Images as requested."""

    prompt: str = Field(min_length=1)
    n: Annotated[int, FromFloat, Field(ge=1, le=MAX_INT)] | None = None
    response_format: Literal["b64_json", "url"] | None = Field(default=None, description="Default: b64_json.")
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, FromFloat, Field(ge=0, le=100)] | None = Field(
        default=None, description="Quality of JPEG and WebP, in percent; default 100."
    )
    quality: Literal["auto", "low", "medium", "high", "standard", "hd"] | None = Field(
        default=None, description="low, medium and high are the presets draft, standard and best."
    )
    background: Literal["auto", "opaque"] | None = None
    moderation: Literal["auto", "low"] | None = Field(default=None, description="Accepted: nothing is moderated here.")
    stream: Annotated[bool, AfterValidator(_no_stream), WithJsonSchema({"type": "boolean", "enum": [False]})] | None = (
        None
    )
    partial_images: Annotated[int, FromFloat, Field(ge=0, le=0)] | None = None
    safety_identifier: str | None = Field(default=None, description="Accepted and not used, as `user`.")


def _alone(given: Any) -> Any:
    """Return the only item of a list: clients send one image as a list of one."""
    return given[0] if isinstance(given, list) and len(given) == 1 else given


class EditImage(CreateImage):
    """A changed image as requested."""

    image: Annotated[PictureOf, BeforeValidator(_alone)] = None
    images: tuple[Reference, ...] | None = Field(default=None, min_length=1, max_length=1)
    frame: FrameOf = None
    strength: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="How far the image may change: 0.3 a little, 0.9 almost all."
    )

    @model_validator(mode="after")
    def _one_image(self) -> Self:
        if (self.image is None) == (self.images is None):
            raise ValueError("give one image, as image or in images")
        return self


class ListVideos(Frozen):
    """The part of the list that is asked for."""

    after: Name | None = Field(default=None, description="Id of the last video of the previous page.")
    limit: int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class VideoContent(Frozen):
    """The file that is asked for."""

    variant: Literal["video", "thumbnail", "spritesheet"] = "video"
    index: int = Field(default=0, ge=0, le=999, description="Which video of a job with several; from 0.")
