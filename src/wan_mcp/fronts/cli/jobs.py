"""`wan-mcp jobs`: list, show and cancel jobs."""

import json
from datetime import datetime
from typing import Annotated

import typer

from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.jobs.rows import JobListing
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobView, serving
from wan_mcp.settings import Settings
from wan_mcp.text import one_line, shortened

__all__ = ["app"]

PROMPT_SHOWN = 60
CANCEL_WAIT_S = 10.0

app = typer.Typer(help="List, show and cancel jobs.", invoke_without_command=True, rich_markup_mode=None)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[str, typer.Argument(help="The job's id.")]


@app.callback()
def default(ctx: typer.Context) -> None:
    """List, show and cancel jobs."""
    if ctx.invoked_subcommand is None:
        list_jobs(ctx)


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    status: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    import anyio
    from rich.table import Table

    from wan_mcp.fronts.cli.screen import Screen

    async def read(settings: Settings) -> JobListing:
        async with serving(settings) as service:
            return await service.listed(status, limit)

    found = anyio.run(read, ctx.obj)
    if as_json:
        readable = [job.model_dump(mode="json") for job in found.jobs]
        bad = [{"id": job.id, "state": job.state, "unreadable": job.reason} for job in found.unreadable]
        typer.echo(json.dumps([*readable, *bad], indent=2))
        return
    table = Table(box=None)
    for column, width in (("id", 20), ("status", 9), ("made", 19), ("what", 13)):
        table.add_column(column, no_wrap=True, min_width=width)  # a narrow terminal cuts the last one
    table.add_column("asked", no_wrap=True, overflow="ellipsis")
    for job in found.jobs:
        made = datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(job.id, job.state, made, job.plan.task, one_line(_asked(job)))
    if found.jobs or not found.unreadable:
        Screen(stderr=False, whole=True).print(
            table if found.jobs else f"no {status} jobs" if status else "no jobs yet"
        )
    for unreadable in found.unreadable:
        echo(one_line(str(unreadable)))


@app.command()
def show(ctx: typer.Context, job_id: JobId) -> None:
    """Show everything about one job, as JSON."""
    import anyio

    async def read(settings: Settings) -> JobView:
        async with serving(settings) as service:
            return await service.view(job_id)

    view = anyio.run(read, ctx.obj)
    extra = {"queue_position": view.queue_position, "eta_s": view.eta_s}
    typer.echo(json.dumps(view.job.model_dump(mode="json") | extra, indent=2))


@app.command()
def cancel(ctx: typer.Context, job_id: JobId) -> None:
    """Stop a queued or running job."""
    import anyio

    async def stop(settings: Settings) -> JobView:
        async with serving(settings) as service:
            await service.cancel(job_id)
            return await service.wait(job_id, CANCEL_WAIT_S)

    job = anyio.run(stop, ctx.obj).job
    echo(f"job {job.id} is {job.state}" if job.state.final else f"job {job.id} will stop after its current step")


def _asked(job: Job) -> str:
    plan = job.plan
    return shortened(plan.prompt_asked or (plan.image.source if plan.image else ""), PROMPT_SHOWN)
