"""Follow a job in a terminal: a progress bar, Ctrl-C to cancel, and the results at their targets."""

import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import typer
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from wan_mcp.errors import UserError
from wan_mcp.fronts.cli.chosen_job import chosen_job, job_as_json
from wan_mcp.fronts.cli.delivery import Delivery
from wan_mcp.fronts.cli.screen import Screen
from wan_mcp.fronts.cli.terminal import echo, echo_path, is_quiet
from wan_mcp.fronts.cli.usage_errors import in_cli_words
from wan_mcp.fronts.cli.viewer import open_file
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import Request
from wan_mcp.service.background import background
from wan_mcp.service.describe import fraction_of, sentence
from wan_mcp.service.estimate_in_words import estimate_facts, estimate_lines, request_as_it_would_run
from wan_mcp.service.remix import Remix
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.service.terms import Terms
from wan_mcp.settings import Settings
from wan_mcp.text import duration, one_line

__all__ = ["CLIENT", "FAILED", "follow", "follow_job", "run_remix", "run_request", "say"]

CLIENT = "command line"
FAILED = 1
INTERRUPTED = 130
LINE_EVERY_S = 10.0

screen = Screen()


def run_request(settings: Settings, request: Request, delivery: Delivery, terms: Terms) -> None:
    """Submit a request, follow its job, deliver the results; exits with 1 if the job failed, 130 if it was stopped.

    Raises:
        UserError: the request is refused.
    """

    async def made(service: JobService) -> Remix:
        return Remix(request)

    run_remix(settings, made, delivery, terms)


def run_remix(
    settings: Settings, make: Callable[[JobService], Awaitable[Remix]], delivery: Delivery, terms: Terms
) -> None:
    """Submit the request that `make` returns, like `run_request`.

    Raises:
        UserError: the request is refused.
    """
    screen.quiet = is_quiet()
    if terms.dry_run:
        anyio.run(_estimate, settings, make, delivery)
        return
    job = anyio.run(_run, settings, make, delivery, terms)
    if delivery.detach and not delivery.as_json:
        typer.echo(job.id)
        say(f"The job runs in the background; wait for its result with: wan-mcp jobs wait {job.id}")
        return
    _deliver(job, delivery, ContentCredentials.of(settings))


def follow_job(settings: Settings, meant: str, delivery: Delivery) -> None:
    """Follow a job that was started before, and deliver its results; exits like `run_request`.

    Raises:
        UserError: there is no such job, or its result cannot be delivered that way.
    """
    screen.quiet = is_quiet()

    async def wait() -> Job:
        async with serving(settings) as service:
            job = (await chosen_job(service, meant)).job
            delivery.check(job.plan.kind, job.plan.count)
            await _follow(service, job.id)
            return (await service.view(job.id)).job

    try:
        job = anyio.run(wait)
    except KeyboardInterrupt:
        say("The job continues; wait for it again, or stop it with: wan-mcp jobs cancel")
        sys.exit(INTERRUPTED)
    _deliver(job, delivery, ContentCredentials.of(settings))


def _deliver(job: Job, delivery: Delivery, credentials: ContentCredentials | None) -> None:
    """Print a job and write its results; exits if it has not succeeded."""
    notes: list[str] = []
    paths = delivery.deliver(job, credentials, notes) if job.state is JobState.SUCCEEDED else []
    if delivery.as_json:
        typer.echo(json.dumps(job_as_json(job), indent=2))
    else:
        _tell(job, paths, notes)
    if delivery.opens:
        for path in paths:
            if (why_not := open_file(path)) is not None:
                say(f"{path} is not opened: {why_not}")
    if job.state is JobState.FAILED:
        sys.exit(FAILED)
    if job.state is not JobState.SUCCEEDED and not delivery.detach:
        sys.exit(INTERRUPTED)


def say(text: str) -> None:
    """Print a line to stderr, in the words of the command line."""
    screen.print(one_line(in_cli_words(text)))


def _tell(job: Job, paths: list[Path], notes: list[str]) -> None:
    if job.state is JobState.SUCCEEDED:
        for path in paths:
            echo_path(path)
        if job.caption is not None and not paths:
            echo(job.caption)
        if job.artifacts:
            say(f"seed {job.plan.seed}")
        for note in (*job.plan.notes, *job.notes, *notes):
            say(f"note: {note}")
        if job.finished_at and job.started_at:
            say(f"done in {duration(job.finished_at - job.started_at)} (job {job.id})")
    elif job.error is not None:
        echo(one_line(in_cli_words(job.error.message)), fg="red", err=True)
    elif job.state.final:
        say(f"job {job.id} is {job.state}")
    else:
        say(f"job {job.id} has not stopped yet; check it with: wan-mcp jobs wait {job.id}")


async def _estimate(settings: Settings, make: Callable[[JobService], Awaitable[Remix]], delivery: Delivery) -> None:
    """Print what a request would do and take."""
    async with serving(settings, any_image_folder=True) as service:
        made = await make(service)
        delivery.check(made.request.kind, getattr(made.request, "count", None) or 1)
        found = await service.estimate(made.request, made.images)
        manifest = service.catalog.manifests.get(found.plan.model)
        request = request_as_it_would_run(found.plan, manifest, settings.home)
    if delivery.as_json:
        typer.echo(json.dumps({"request": request, "estimate": estimate_facts(found)}, indent=2))
        return
    for line in estimate_lines(found):
        echo(one_line(in_cli_words(line)))


async def follow(service: JobService, job_id: str) -> None:
    """Wait for a job and show its progress; the first Ctrl-C cancels it."""
    async with _interruptible(service, job_id):
        await _follow(service, job_id)


async def _run(
    settings: Settings, make: Callable[[JobService], Awaitable[Remix]], delivery: Delivery, terms: Terms
) -> Job:
    # A person at their own command line may use any image that they can read.
    async with serving(settings, any_image_folder=True) as service:
        made = await make(service)
        delivery.check(made.request.kind, getattr(made.request, "count", None) or 1)
        view = await service.submit(
            made.request, client=CLIENT, parent=made.parent, images=made.images, download=terms.download
        )
        job = view.job
        if not delivery.detach:
            await follow(service, job.id)
            job = (await service.view(job.id)).job
        return job


async def _follow(service: JobService, job_id: str) -> None:
    if not screen.is_terminal:
        await service.wait(job_id, float("inf"), _Lines())
        return
    columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.percentage:>3.0f}%  {task.description}"))
    with Progress(*columns, console=screen, transient=True) as bar:
        line = bar.add_task("Submitted", total=1.0)

        async def show(view: JobView) -> None:
            bar.update(line, completed=fraction_of(view.job), description=escape(one_line(sentence(view))))

        await service.wait(job_id, float("inf"), show)


class _Lines:
    """A job's progress where no bar can be drawn: a line now and then, so that a long job is not silent."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()

    async def __call__(self, view: JobView) -> None:
        if time.monotonic() - self._said_at >= LINE_EVERY_S and not view.job.state.final:
            self._said_at = time.monotonic()
            say(f"{fraction_of(view.job):.0%} {sentence(view)}")


@asynccontextmanager
async def _interruptible(service: JobService, job_id: str) -> AsyncIterator[None]:
    """Cancel the job at the first Ctrl-C; end the block at the second, while the job is still stopping."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            await anext(signals)
            say("stopping the job; press Ctrl-C again to exit without waiting")
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                await anext(signals)
                block.cancel()

    async def ask() -> None:
        try:
            await service.cancel(job_id)
        except UserError as error:
            echo(one_line(in_cli_words(f"cannot stop the job: {error}")), fg="red", err=True)

    with anyio.CancelScope() as block:
        async with background(listen):
            yield
