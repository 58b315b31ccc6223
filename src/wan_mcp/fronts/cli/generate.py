"""`wan-mcp generate video|image` and `wan-mcp caption`: one request from the command line."""

import sys
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.service.terms import Terms

__all__ = ["app", "caption"]

app = typer.Typer(help="Make a video or an image.", no_args_is_help=True, rich_markup_mode=None)

DEFAULT_PLACE = "By default the result stays in the home folder and its path is printed."


def _output(endings: str) -> Any:
    return Annotated[Path | None, typer.Option("-o", "--output", help=f"File to write, {endings}. {DEFAULT_PLACE}")]


VideoOutput: Any = _output(".mp4, .gif, .webm or .webp")
ImageOutput: Any = _output(".png, .jpg or .webp")
CaptionOutput: Any = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write, .txt. By default the caption is printed.")
]
STDIN, FROM_FILE = "-", "@"
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the whole job as JSON.")]
Detach = Annotated[bool, typer.Option("--detach", help="Print the job's id and exit; the job continues.")]
Opens = Annotated[bool, typer.Option("--open", help="Open the result with the system's viewer.")]
Download = Annotated[bool, typer.Option("--download", help="Download the model if it is missing, however large it is.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print what it would do, its time, memory and download; make nothing.")
]

R = TypeVar("R", VideoRequest, ImageRequest)


def _with_prompt_read(request: R) -> R:
    """Return a request with the prompt that `-` (stdin) or `@FILE` stands for; any other prompt is itself.

    Raises:
        BadRequest: it cannot be read.
    """
    written = request.prompt
    file = Path(written.removeprefix(FROM_FILE)) if written.startswith(FROM_FILE) else None
    try:
        if written == STDIN:
            read = sys.stdin.buffer.read()
        elif file is not None and file.is_file():
            read = file.read_bytes()
        else:
            return request
        text = read.decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"the prompt cannot be read from {'stdin' if file is None else file}; it must be UTF-8"
        ) from error
    return request.model_copy(update={"prompt": text.rstrip("\r\n")})


@app.command()
@with_request_options
def video(
    ctx: typer.Context,
    request: VideoRequest,
    output: VideoOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
    opens: Opens = False,
    download: Download = False,
    dry_run: DryRun = False,
) -> None:
    """Make a video from a prompt, optionally starting from an image.

    The prompt - is read from stdin, and @FILE from a file.
    """
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    delivery = Delivery(output, force, as_json, detach, opens)
    run_request(ctx.obj, _with_prompt_read(request), delivery, Terms(download, dry_run))


@app.command()
@with_request_options
def image(
    ctx: typer.Context,
    request: ImageRequest,
    output: ImageOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
    opens: Opens = False,
    download: Download = False,
    dry_run: DryRun = False,
) -> None:
    """Make an image from a prompt, optionally starting from another image.

    The prompt - is read from stdin, and @FILE from a file.
    """
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    delivery = Delivery(output, force, as_json, detach, opens)
    run_request(ctx.obj, _with_prompt_read(request), delivery, Terms(download, dry_run))


@with_request_options
def caption(
    ctx: typer.Context,
    request: CaptionRequest,
    output: CaptionOutput = None,
    force: Force = False,
    as_json: AsJson = False,
    detach: Detach = False,
    download: Download = False,
    dry_run: DryRun = False,
) -> None:
    """Describe an image in words."""
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, request, Delivery(output, force, as_json, detach), Terms(download, dry_run))
