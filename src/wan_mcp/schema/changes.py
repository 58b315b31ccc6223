"""What a remix changes: any parameter of any request, each under its own name.

The values are checked by the request that they are put into; here they are only named and typed.
"""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from wan_mcp.schema.blanks import SkipBlanks
from wan_mcp.schema.parameters import AsFrame, CliOption, Parameters, Resolution
from wan_mcp.schema.requests import LoraRequest, Shots

__all__ = ["NEW_SEED", "Changes"]

NEW_SEED = "new"


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _seed(value: str | None) -> str | None:
    if value is None or re.fullmatch(r"\d{1,20}", value.strip()) or value.strip().lower() == NEW_SEED:
        return value and value.strip().lower()
    raise ValueError(f"a seed is a whole number, or '{NEW_SEED}' for a random one")


class Changes(Parameters):
    """The parameters that a remix changes; all others stay as they were."""

    prompt: Annotated[str | None, Field(description="New prompt."), CliOption("--prompt")] = None
    seed: Annotated[
        str | None,
        BeforeValidator(_as_text),
        AfterValidator(_seed),
        Field(description=f"'{NEW_SEED}' for another result, or a number. Default: the job's seed."),
    ] = None
    negative_prompt: Annotated[str | None, Field(description="What to avoid."), CliOption("--negative")] = None
    model: Annotated[str | None, Field(description="Model name.")] = None
    preset: Annotated[str | None, Field(description="draft, standard or best.")] = None
    image: Annotated[str | None, Field(description="Start image."), CliOption("--image")] = None
    frame: Annotated[str | None, AsFrame, Field(description="Of a video.")] = None
    last_image: Annotated[str | None, Field(description="Last frame.")] = None
    last_image_frame: Annotated[str | None, AsFrame, Field(description="The same.")] = None
    extend: Annotated[str | None, Field(description="Video to continue.")] = None
    strength: Annotated[float | None, Field(description="0 to 1.")] = None
    resolution: Annotated[str | None, *Resolution.__metadata__[:1], Field(description="Size name or WIDTHxHEIGHT.")] = (
        None
    )
    duration_s: Annotated[float | None, Field(description="Seconds."), CliOption("--duration")] = None
    num_frames: Annotated[int | None, Field(description="Frames."), CliOption("--frames")] = None
    steps: Annotated[int | None, Field(description="Steps.")] = None
    guidance_scale: Annotated[float | None, Field(description="Guidance."), CliOption("--guidance")] = None
    guidance_scale_2: Annotated[
        float | None, Field(description="For the second expert."), CliOption("--guidance-2")
    ] = None
    turbo: Annotated[bool | None, Field(description="Sparse attention.")] = None
    style: Annotated[str | None, Field(description="Style.")] = None
    lora: Annotated[tuple[LoraRequest, ...], SkipBlanks(LoraRequest), Field(description="LoRAs.")] = ()
    shots: Annotated[
        Shots,
        Field(description="Further shots."),
        CliOption("--shot", "Prompt of a further shot; all shots of the job are replaced."),
    ] = ()
    count: Annotated[int | None, Field(description="Results.")] = None
    check: Annotated[bool | None, Field(description="Compare with the prompt."), CliOption("--check/--no-check")] = None
    pick: Annotated[str | None, Field(description="best.")] = None
    caption_type: Annotated[
        str | None, Field(coerce_numbers_to_str=True, description="Of captions."), CliOption("--type")
    ] = None
    length: Annotated[str | None, Field(coerce_numbers_to_str=True, description="Of captions.")] = None
    extra_options: Annotated[
        tuple[str, ...], SkipBlanks(), Field(description="Of captions, a list."), CliOption("--option")
    ] = ()

    def given(self) -> dict[str, Any]:
        """Return the parameters that were given, as they can be put into a request."""
        words = self.model_dump(mode="json", exclude_unset=True)
        return {name: value for name, value in words.items() if value is not None and value != []}
