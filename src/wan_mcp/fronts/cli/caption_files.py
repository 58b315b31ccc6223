"""Captions of many pictures: a text file next to each."""

import json
from collections.abc import Sequence
from pathlib import Path

import anyio
import typer

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.fronts.cli.chosen_job import job_as_json
from wan_mcp.fronts.cli.delivery import Delivery
from wan_mcp.fronts.cli.follow import CLIENT, FAILED, follow, say
from wan_mcp.fronts.cli.terminal import echo_path
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.service.terms import Terms
from wan_mcp.settings import Settings
from wan_mcp.text import one_line

__all__ = ["caption_files", "pictures_of"]

ENDINGS = frozenset(
    [
        *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif"),
        *(".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi"),
    ]
)
"""The endings of pictures and videos in a folder; files that are named themselves may have any."""


def pictures_of(names: Sequence[str]) -> list[Path] | None:
    """Return the pictures that these names of files and folders stand for; None for one name that is no folder.

    Raises:
        BadRequest: A folder has no picture or cannot be read, or two pictures would have the same text file.
    """
    if len(names) == 1 and not Path(names[0]).is_dir():
        return None
    pictures: list[Path] = []
    for name in names:
        path = Path(name)
        if not path.is_dir():
            pictures.append(path)
            continue
        try:
            found = [each for each in path.iterdir() if each.suffix.lower() in ENDINGS and each.name[0] != "."]
        except OSError as error:
            raise BadRequest(f"the folder {one_line(name)} cannot be read ({error.strerror})") from error
        if not found:
            raise BadRequest(f"the folder {one_line(name)} has no pictures: {', '.join(sorted(ENDINGS))}")
        pictures += sorted(found)
    texts: dict[Path, Path] = {}
    for picture in dict.fromkeys(pictures):
        if (other := texts.setdefault(_text_of(picture), picture)) != picture:
            raise BadRequest(f"{other} and {picture} would have the same text file; rename one, or caption them apart")
    return list(texts.values())


def caption_files(
    settings: Settings, request: CaptionRequest, pictures: Sequence[Path], delivery: Delivery, terms: Terms
) -> None:
    """Caption each picture, one after the other, into a text file next to it; exits with 1 if one has none.

    A picture whose text file exists is passed over, unless `delivery.force`.

    Raises:
        BadRequest: An option means nothing for several pictures.
    """
    for given, flag in ((delivery.output, "--output"), (delivery.detach, "--detach"), (terms.dry_run, "--dry-run")):
        if given:
            raise BadRequest(f"{flag} is for one picture; the captions of several are written next to them; omit it")
    failed = anyio.run(_caption_all, settings, request, pictures, delivery, terms)
    if failed:
        say(f"{failed} of {len(pictures)} pictures have no caption")
        raise typer.Exit(FAILED)


async def _caption_all(
    settings: Settings, request: CaptionRequest, pictures: Sequence[Path], delivery: Delivery, terms: Terms
) -> int:
    """Caption all pictures, and return how many have failed."""
    failed, jobs = 0, []
    async with serving(settings, any_image_folder=True) as service:
        for number, picture in enumerate(pictures, start=1):
            text = _text_of(picture)
            if text.exists() and not delivery.force:
                say(f"{text} exists; --force writes it again")
                continue
            say(f"{number} of {len(pictures)}: {picture}")
            try:
                job = await _caption(service, request, picture, Delivery(text, delivery.force), terms)
            except UserError as error:
                say(f"{picture}: {error}")
                failed += 1
                continue
            jobs.append(job)
            if job.state is not JobState.SUCCEEDED:
                say(f"{picture}: {job.error.message if job.error else job.state}")
                failed += 1
            elif not delivery.as_json:
                echo_path(text)
    if delivery.as_json:
        typer.echo(json.dumps([job_as_json(job) for job in jobs], indent=2))
    return failed


async def _caption(
    service: JobService, request: CaptionRequest, picture: Path, delivery: Delivery, terms: Terms
) -> Job:
    delivery.check(Kind.CAPTION, 1)
    asked = request.model_copy(update={"image": str(picture)})
    view = await service.submit(asked, client=CLIENT, download=terms.download)
    await follow(service, view.job.id)
    job = (await service.view(view.job.id)).job
    if job.state is JobState.SUCCEEDED:
        delivery.deliver(job)
    return job


def _text_of(picture: Path) -> Path:
    return picture.with_suffix(".txt")
