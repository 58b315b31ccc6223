"""Follow a job in a terminal: a progress bar, Ctrl-C to cancel, and the results copied to their target."""

import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import Request
from wan_mcp.service.background import background
from wan_mcp.service.describe import fraction_of, sentence
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings
from wan_mcp.text import duration

__all__ = ["Delivery", "run_request"]

FAILED = 1
INTERRUPTED = 130

screen = Console(stderr=True, highlight=False)


@dataclass(frozen=True)
class Delivery:
    """Where and how the caller wants the result."""

    output: Path | None = None
    force: bool = False
    as_json: bool = False
    detach: bool = False

    def check(self, count: int) -> None:
        """Refuse a delivery that would fail, before anything runs.

        Raises:
            BadRequest: a file of that name exists, or its folder does not.
        """
        if self.output is None:
            return
        if not self.output.absolute().parent.is_dir():
            raise BadRequest(f"no folder {self.output.absolute().parent}; create it or choose another -o")
        taken = [str(target) for target in self._targets(count) if target.exists()]
        if taken and not self.force:
            raise BadRequest(f"{', '.join(taken)} already exists; choose another -o or add --force")

    def _targets(self, count: int) -> list[Path]:
        if self.output is None:
            return []
        if count == 1:
            return [self.output]
        return [self.output.with_stem(f"{self.output.stem}-{number}") for number in range(1, count + 1)]

    def deliver(self, job: Job) -> list[Path]:
        """Copy the results to their targets and return the paths to print.

        Raises:
            BadRequest: A target cannot be written; the message names the result's own path.
        """
        sources = [Path(artifact.path) for artifact in job.artifacts]
        if self.output is None:
            return sources
        targets = self._targets(len(sources))
        for source, target in zip(sources, targets, strict=True):
            try:
                shutil.copyfile(source, target)
            except OSError as error:
                raise BadRequest(f"{target} cannot be written ({error.strerror}); the result is {source}") from error
        return targets


def run_request(settings: Settings, request: Request, delivery: Delivery) -> None:
    """Submit a request, follow its job, deliver the results; exits with 1 if the job failed, 130 if it was stopped.

    Raises:
        UserError: the request is refused.
    """
    delivery.check(getattr(request, "count", 1))
    job = anyio.run(_run, settings, request, delivery)
    paths = delivery.deliver(job) if job.state is JobState.SUCCEEDED else []
    if delivery.as_json:
        typer.echo(json.dumps(job.model_dump(mode="json"), indent=2))
    elif delivery.detach:
        typer.echo(job.id)
        _say(f"The job runs in the background; follow it with: wan-mcp jobs show {job.id}")
    else:
        _tell(job, paths)
    if job.state is JobState.FAILED:
        sys.exit(FAILED)
    if job.state is not JobState.SUCCEEDED and not delivery.detach:
        sys.exit(INTERRUPTED)


def _say(text: str, style: str | None = None) -> None:
    """Print a line to stderr verbatim: a prompt or a reason may look like markup."""
    screen.print(text, style=style, markup=False, soft_wrap=True)


def _tell(job: Job, paths: list[Path]) -> None:
    if job.state is JobState.SUCCEEDED:
        for path in paths:
            typer.echo(path)
        if job.caption is not None:
            typer.echo(job.caption)
        if job.artifacts:
            _say(f"seed {job.plan.seed}")
        for note in (*job.plan.notes, *job.notes):
            _say(f"note: {note}")
        if job.finished_at and job.started_at:
            _say(f"done in {duration(job.finished_at - job.started_at)} (job {job.id})")
    elif job.error is not None:
        _say(job.error.message, "red")
    elif job.state.final:
        _say(f"job {job.id} is {job.state}")
    else:
        _say(f"job {job.id} has not stopped yet; check it with: wan-mcp jobs show {job.id}")


async def _run(settings: Settings, request: Request, delivery: Delivery) -> Job:
    # A person at their own command line may use any image that they can read.
    async with serving(settings, any_image_folder=True) as service:
        job = (await service.submit(request)).job
        if not delivery.detach:
            async with _interruptible(service, job.id):
                await _follow(service, job.id)
            job = (await service.view(job.id)).job
        return job


async def _follow(service: JobService, job_id: str) -> None:
    columns = (SpinnerColumn(), BarColumn(bar_width=30), TextColumn("{task.percentage:>3.0f}%  {task.description}"))
    with Progress(*columns, console=screen, transient=True) as bar:
        line = bar.add_task("Submitted", total=1.0)

        async def show(view: JobView) -> None:
            bar.update(line, completed=fraction_of(view.job), description=escape(sentence(view)))

        await service.wait(job_id, float("inf"), show)


@asynccontextmanager
async def _interruptible(service: JobService, job_id: str) -> AsyncIterator[None]:
    """Cancel the job at the first Ctrl-C; end the block at the second, while the job is still stopping."""

    async def listen() -> None:
        with anyio.open_signal_receiver(signal.SIGINT) as signals:
            await anext(signals)
            _say("stopping the job; press Ctrl-C again to exit without waiting")
            async with anyio.create_task_group() as asking:
                asking.start_soon(ask)
                await anext(signals)
                block.cancel()

    async def ask() -> None:
        try:
            await service.cancel(job_id)
        except UserError as error:
            _say(f"cannot stop the job: {error}", "red")

    with anyio.CancelScope() as block:
        async with background(listen):
            yield
