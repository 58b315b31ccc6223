"""`wan-mcp remix` and `wan-mcp again`: make a job, or what a file shows, again with changes."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wan_mcp.errors import BadRequest, JobFailed
from wan_mcp.fronts.cli.completion import complete_jobs
from wan_mcp.fronts.cli.delivery_options import output_option, with_delivery
from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.schema.changes import Changes
from wan_mcp.service.remix import Remix, of_receipt
from wan_mcp.service.service import JobService
from wan_mcp.service.terms import Terms
from wan_mcp.text import one_line

if TYPE_CHECKING:
    from wan_mcp.fronts.cli.delivery import Delivery

__all__ = ["again", "remix"]


@with_request_options
@with_delivery(output_option("File to write"))
def remix(
    ctx: typer.Context,
    job_id: Annotated[
        str,
        typer.Argument(help="The job's id, its first letters, or 'latest'.", autocompletion=complete_jobs),
    ],
    request: Changes,
    delivery: "Delivery",
    terms: Terms,
) -> None:
    """Make a job again with changes: --seed new for another result, or any option of the command that made it."""
    from wan_mcp.fronts.cli.chosen_job import chosen_job
    from wan_mcp.fronts.cli.follow import run_remix

    async def make(service: JobService) -> Remix:
        job = (await chosen_job(service, job_id)).job
        return await service.remix(job.id, request)

    run_remix(ctx.obj, make, delivery, terms)


@with_request_options
@with_delivery(output_option("File to write"))
def again(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(help="A video or an image that wan-mcp made.")],
    request: Changes,
    delivery: "Delivery",
    terms: Terms,
) -> None:
    """Make what a file shows again, by the receipt in it; with changes, such as --seed new."""
    from wan_mcp.fronts.cli.follow import run_remix

    async def make(service: JobService) -> Remix:
        return of_receipt(_receipt_in(file), request, service.catalog, service.settings.home)

    run_remix(ctx.obj, make, delivery, terms)


def _receipt_in(file: Path) -> dict[str, Any]:
    from wan_mcp.media.receipts import read_receipt

    name = one_line(str(file))
    try:
        receipt = read_receipt(file) if file.is_file() else None
    except (OSError, JobFailed) as error:
        raise BadRequest(f"{name} cannot be read: {one_line(str(error))}") from error
    if receipt is None:
        reason = "carries no receipt of wan-mcp; programs that send or edit a file often remove it"
        raise BadRequest(f"{name} {reason}" if file.is_file() else f"there is no file {name}")
    return receipt
