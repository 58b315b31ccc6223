"""`wan-mcp jobs`: list, show, wait for, cancel, keep and delete jobs."""

import json
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from wan_mcp.fronts.cli.chosen_job import chosen_job, job_as_json
from wan_mcp.fronts.cli.command_tree import ListByDefault
from wan_mcp.fronts.cli.completion import complete_jobs, complete_models
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.jobs.rows import JobListing
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.service.describe import fraction_of
from wan_mcp.service.retention import expires_at
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings
from wan_mcp.text import one_line, shortened

__all__ = ["app"]

PROMPT_SHOWN = 60
DAYS = ["%Y-%m-%d"]
"""How a day is written."""
CANCEL_WAIT_S = 10.0
WIDE = 160
"""Columns of a terminal in which a job's model, seed and result have room as well."""

T = TypeVar("T")

app = typer.Typer(
    cls=ListByDefault,
    help="List, show, wait for, cancel, keep and delete jobs.",
    invoke_without_command=True,
    rich_markup_mode=None,
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JobId = Annotated[
    str,
    typer.Argument(help="The job's id, its first letters, or 'latest'.", autocompletion=complete_jobs),
]


@app.callback()
def default(ctx: typer.Context) -> None:
    """List, show, wait for, cancel, keep and delete jobs."""
    if ctx.invoked_subcommand is None:
        list_jobs(ctx)


def _ask(settings: Settings, question: Callable[[JobService], Awaitable[T]]) -> T:
    """Ask the job service of these settings."""
    import anyio

    async def asking() -> T:
        async with serving(settings) as service:
            return await question(service)

    return anyio.run(asking)


@app.command("list")
def list_jobs(
    ctx: typer.Context,
    query: Annotated[
        str | None, typer.Argument(help="Only jobs whose prompt, caption, model or id contains these words.")
    ] = None,
    status: Annotated[JobState | None, typer.Option(help="Only jobs in this state.")] = None,
    kind: Annotated[Kind | None, typer.Option(help="Only videos, images or captions.")] = None,
    model: Annotated[str | None, typer.Option(help="Only jobs of this model.", autocompletion=complete_models)] = None,
    since: Annotated[datetime | None, typer.Option(help="Only jobs made on this day or later.", formats=DAYS)] = None,
    until: Annotated[datetime | None, typer.Option(help="Only jobs made on this day or before.", formats=DAYS)] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of jobs to list.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first. Wide terminals and pipes also get model, seed and result."""
    from wan_mcp.fronts.cli.screen import Screen

    async def read(service: JobService) -> JobListing:
        states = () if status is None else (status,)
        return await service.find(
            query,
            kind=kind,
            model=model,
            states=states,
            since=_midnight(since),
            until=_midnight(until, later=1),
            limit=limit,
        )

    found = _ask(ctx.obj, read)
    if as_json:
        bad = [{"id": job.id, "state": job.state, "unreadable": job.reason} for job in found.unreadable]
        typer.echo(json.dumps([*map(job_as_json, found.jobs), *bad], indent=2))
        return
    screen = Screen(stderr=False, whole=True)
    if found.jobs:
        screen.print(_table(found.jobs, wide=screen.width >= WIDE))
    elif not found.unreadable:
        narrowed = query or kind or model or since or until
        echo("no such jobs" if narrowed else f"no {status} jobs" if status else "no jobs yet")
    for unreadable in found.unreadable:
        echo(one_line(str(unreadable)))


def _midnight(day: datetime | None, later: int = 0) -> float | None:
    """Return the Unix time at which a day begins here, or one that is `later` days after it; None for no day."""
    if day is None:
        return None
    try:
        return (day + timedelta(days=later)).timestamp()
    except (OverflowError, ValueError) as error:
        raise typer.BadParameter(f"{day:%Y-%m-%d} is too far from today") from error


def _table(jobs: list[Job], *, wide: bool) -> Any:
    from rich.table import Table

    table = Table(box=None)
    columns = [("id", 20), ("status", 9), ("made", 19), ("what", 13)]
    for column, width in [*columns, *([("model", 8), ("seed", 4)] if wide else [])]:
        table.add_column(column, no_wrap=True, min_width=width)  # a narrow terminal cuts the last one
    for column in ("asked", "result") if wide else ("asked",):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    several = len({job.device for job in jobs if job.state is JobState.RUNNING}) > 1
    for job in jobs:
        made = datetime.fromtimestamp(job.created_at).strftime("%Y-%m-%d %H:%M:%S")
        running = f"{job.state} {fraction_of(job):.0%}" + (f" on {job.device}" if several else "")
        state = running if job.state is JobState.RUNNING else job.state
        more = (job.plan.model, str(job.plan.seed)) if wide else ()
        end = (one_line(_result(job)),) if wide else ()
        table.add_row(job.id, state, made, job.plan.task, *more, one_line(_asked(job)), *end)
    return table


def _result(job: Job) -> str:
    """Return what came out of a job: its files, its caption or its error."""
    if job.error is not None:
        return job.error.message
    return job.caption or ", ".join(artifact.path for artifact in job.artifacts)


@app.command()
def show(ctx: typer.Context, job_id: JobId) -> None:
    """Show everything about one job, as JSON."""

    async def read(service: JobService) -> JobView:
        return await chosen_job(service, job_id)

    view = _ask(ctx.obj, read)
    extra = {"queue_position": view.queue_position, "eta_s": view.eta_s}
    if (expires := expires_at(view.job, ctx.obj)) is not None:
        extra["expires_at"] = expires
    typer.echo(json.dumps(job_as_json(view.job) | extra, indent=2))


@app.command()
def wait(
    ctx: typer.Context,
    job_id: JobId,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="File to write: .mp4, .gif, .webm, .webp, .png, .jpg or .txt, by the kind of job."
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole job as JSON.")] = False,
    opens: Annotated[bool, typer.Option("--open", help="Open the result with the system's viewer.")] = False,
) -> None:
    """Wait for a job and print its result, as the command that started it would. Ctrl-C leaves the job running."""
    from wan_mcp.fronts.cli.delivery import Delivery
    from wan_mcp.fronts.cli.follow import follow_job

    follow_job(ctx.obj, job_id, Delivery(output, force, as_json, opens=opens))


@app.command()
def cancel(ctx: typer.Context, job_id: JobId, as_json: AsJson = False) -> None:
    """Stop a queued or running job."""

    async def stop(service: JobService) -> tuple[JobView, JobView]:
        before = await chosen_job(service, job_id)
        await service.cancel(before.job.id)
        return before, await service.wait(before.job.id, CANCEL_WAIT_S)

    before, after = _ask(ctx.obj, stop)
    job = after.job
    if as_json:
        typer.echo(json.dumps(job_as_json(job), indent=2))
    elif before.job.state.final:
        echo(f"job {job.id} had already ended ({job.state}): there was nothing to stop")
    else:
        echo(f"job {job.id} is {job.state}" if job.state.final else f"job {job.id} will stop after its current step")


@app.command("rm")
def remove(
    ctx: typer.Context,
    job_ids: Annotated[
        list[str],
        typer.Argument(help="Jobs: ids, their first letters, or 'latest'.", autocompletion=complete_jobs),
    ],
) -> None:
    """Delete jobs that have ended, with their files. Kept jobs, and those that others need, are refused."""

    async def delete(service: JobService) -> None:
        found = [await chosen_job(service, meant) for meant in job_ids]  # a wrong one is refused before any is deleted
        for view in found:
            job = await service.delete(view.job.id)
            echo(f"deleted job {job.id}")

    _ask(ctx.obj, delete)


@app.command()
def keep(
    ctx: typer.Context,
    job_id: JobId,
    off: Annotated[bool, typer.Option("--off", help="Keep it no longer.")] = False,
) -> None:
    """Keep a job, so that nothing deletes it."""

    async def mark(service: JobService) -> JobView:
        view = await chosen_job(service, job_id)
        return await service.keep(view.job.id, not off)

    job = _ask(ctx.obj, mark).job
    echo(f"job {job.id} is {'kept' if job.kept else 'no longer kept'}")


def _asked(job: Job) -> str:
    plan = job.plan
    words = plan.prompt_asked or (plan.image.source if plan.image else "")
    return shortened(words, PROMPT_SHOWN)
