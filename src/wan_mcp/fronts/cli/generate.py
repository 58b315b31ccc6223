"""`wan-mcp generate video|image` and `wan-mcp caption`: one request from the command line."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.delivery_options import output_option, with_delivery
from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.service.terms import Terms

if TYPE_CHECKING:
    from wan_mcp.fronts.cli.delivery import Delivery

__all__ = ["app", "caption"]

app = typer.Typer(help="Make a video or an image.", no_args_is_help=True, rich_markup_mode=None)

STDIN, FROM_FILE = "-", "@"

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
@with_delivery(output_option("File to write, .mp4, .gif, .webm or .webp"))
def video(ctx: typer.Context, request: VideoRequest, delivery: "Delivery", terms: Terms) -> None:
    """Make a video from a prompt, optionally starting from an image.

    The prompt - is read from stdin, and @FILE from a file.
    """
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, _with_prompt_read(request), delivery, terms)


@app.command()
@with_request_options
@with_delivery(output_option("File to write, .png, .jpg or .webp"))
def image(ctx: typer.Context, request: ImageRequest, delivery: "Delivery", terms: Terms) -> None:
    """Make an image from a prompt, optionally starting from another image.

    The prompt - is read from stdin, and @FILE from a file.
    """
    from wan_mcp.fronts.cli.follow import run_request

    run_request(ctx.obj, _with_prompt_read(request), delivery, terms)


@with_request_options
@with_delivery(output_option("File to write, .txt", "By default the caption is printed."), opens=False)
def caption(
    ctx: typer.Context,
    request: CaptionRequest,
    delivery: "Delivery",
    terms: Terms,
    more: Annotated[list[str] | None, typer.Argument(help="More images, or folders of images.")] = None,
) -> None:
    """Describe an image in words; for a folder or several files, write a .txt file next to each.

    A .txt file that exists is kept, unless --force is given.
    """
    from wan_mcp.fronts.cli.caption_files import caption_files, pictures_of
    from wan_mcp.fronts.cli.follow import run_request

    pictures = pictures_of([request.image, *(more or [])])
    if pictures is not None:
        caption_files(ctx.obj, request, pictures, delivery, terms)
        return
    run_request(ctx.obj, request, delivery, terms)
