"""`wan-mcp generate video|image` and `wan-mcp caption`: one request from the command line."""

from pathlib import Path
from typing import Annotated, Any

import typer

from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest

__all__ = ["app", "caption"]

app = typer.Typer(help="Make a video or an image.", no_args_is_help=True, rich_markup_mode=None)

DEFAULT_PLACE = "By default the result stays in the home folder and its path is printed."


def _output(endings: str) -> Any:
    return Annotated[Path | None, typer.Option("-o", "--output", help=f"File to write, {endings}. {DEFAULT_PLACE}")]


VideoOutput: Any = _output(".mp4")
ImageOutput: Any = _output(".png, .jpg or .webp")
CaptionOutput: Any = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write, .txt. By default the caption is printed.")
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and exit; the job continues.")]


@app.command()
@with_request_options
def video(
    ctx: typer.Context,
    request: VideoRequest,
    output: VideoOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Make a video from a prompt, optionally starting from an image."""
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, request, Delivery(output, force, as_json, detach))


@app.command()
@with_request_options
def image(
    ctx: typer.Context,
    request: ImageRequest,
    output: ImageOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Make an image from a prompt, optionally starting from another image."""
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, request, Delivery(output, force, as_json, detach))


@with_request_options
def caption(
    ctx: typer.Context,
    request: CaptionRequest,
    output: CaptionOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
) -> None:
    """Describe an image in words."""
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, request, Delivery(output, force, as_json, detach))
