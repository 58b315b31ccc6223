"""`wan-mcp generate video|image` and `wan-mcp caption`: one request from the command line."""

from pathlib import Path
from typing import Annotated

import typer

from wan_mcp.fronts.cli.lora_option import Loras
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest

__all__ = ["app", "caption"]

app = typer.Typer(help="Make a video or an image.", no_args_is_help=True, rich_markup_mode=None)

Prompt = Annotated[str, typer.Argument(help="What should be seen.")]
Negative = Annotated[str | None, typer.Option("--negative", help="What should not be seen.")]
Model = Annotated[str | None, typer.Option(help="Model; see 'wan-mcp models'.")]
Preset = Annotated[str | None, typer.Option(help="draft, standard or best; see 'wan-mcp models --json'.")]
Image = Annotated[str | None, typer.Option(help="Start picture: a file, or the wan:// address of a result.")]
Resolution = Annotated[str | None, typer.Option(help="Named size or WIDTHxHEIGHT; see 'wan-mcp models'.")]
Steps = Annotated[int | None, typer.Option(help="Denoising steps.")]
Guidance = Annotated[float | None, typer.Option("--guidance", help="Guidance scale.")]
Seed = Annotated[int | None, typer.Option(help="Same seed and request, same result.")]
Style = Annotated[str | None, typer.Option(help="Style preset; see 'wan-mcp models --styles'.")]
Count = Annotated[int, typer.Option(help="How many, with the seeds that follow.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="File to write; else only its path is told.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and leave; it goes on by itself.")]


@app.command()
def video(
    ctx: typer.Context,
    prompt: Prompt,
    negative_prompt: Negative = None,
    model: Model = None,
    preset: Preset = None,
    image: Image = None,
    last_image: Annotated[str | None, typer.Option(help="Last frame; needs --image.")] = None,
    resolution: Resolution = None,
    duration_s: Annotated[float | None, typer.Option("--duration", help="Length in seconds.")] = None,
    num_frames: Annotated[int | None, typer.Option("--frames", help="Length in frames.")] = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    guidance_scale_2: Annotated[float | None, typer.Option("--guidance-2", help="For the second expert.")] = None,
    turbo: Annotated[
        bool | None, typer.Option(help="Quicker, with sparse attention: changes the picture; not on all models.")
    ] = None,
    seed: Seed = None,
    style: Style = None,
    lora: Loras = None,
    count: Count = 1,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Make a video from a prompt, and from a picture if there is one."""
    from wan_mcp.fronts.cli.follow import Delivery, run_request

    run_request(ctx.obj, VideoRequest.of(locals()), Delivery(output, force, as_json, detach))


@app.command()
def image(
    ctx: typer.Context,
    prompt: Prompt,
    negative_prompt: Negative = None,
    model: Model = None,
    preset: Preset = None,
    image: Image = None,
    strength: Annotated[float | None, typer.Option(help="How far --image may change, 0 to 1.")] = None,
    resolution: Resolution = None,
    steps: Steps = None,
    guidance_scale: Guidance = None,
    seed: Seed = None,
    style: Style = None,
    lora: Loras = None,
    count: Count = 1,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Make an image from a prompt, and from another picture if there is one."""
    from wan_mcp.fronts.cli.follow import Delivery, run_request

    run_request(ctx.obj, ImageRequest.of(locals()), Delivery(output, force, as_json, detach))


def caption(
    ctx: typer.Context,
    image: Annotated[str, typer.Argument(help="A picture: a file, or the wan:// address of a result.")],
    model: Model = None,
    caption_type: Annotated[str | None, typer.Option("--type", help="Caption type of the model.")] = None,
    length: Annotated[str | None, typer.Option(help="Length that the model knows.")] = None,
    prompt: Annotated[str | None, typer.Option(help="An instruction of your own instead of a type.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="What the caption shall add, as the model knows it; repeat it for more.")
    ] = None,
    seed: Seed = None,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Describe a picture in words."""
    from wan_mcp.fronts.cli.follow import Delivery, run_request

    request = CaptionRequest.of(locals() | {"extra_options": option})
    run_request(ctx.obj, request, Delivery(as_json=as_json, detach=detach))
