"""A benchmark from the first look at the queue to the report: our side, the other one, and how alike they are."""

import logging
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.to_thread import run_sync

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.bench.likeness import compared
from wan_mcp.fronts.cli.bench.ours import other_jobs, remove, require_quiet, run_ours, stop_idle_engines
from wan_mcp.fronts.cli.bench.plain import run_plain
from wan_mcp.fronts.cli.bench.prompts import drawn_prompts
from wan_mcp.fronts.cli.bench.report import report_of
from wan_mcp.fronts.cli.bench.side import CAME, Side
from wan_mcp.fronts.cli.screen import Screen
from wan_mcp.fronts.cli.usage_errors import in_cli_words
from wan_mcp.permissions import make_folder, open_home
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.parameters import MAX_SEED
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.service.describe import what_it_makes
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings
from wan_mcp.text import duration

__all__ = ["Benchmark", "measure"]

log = logging.getLogger(__name__)

OUR_SHARE, PLAIN_SHARE = 0.45, 0.9
"""Shares of the time after which each side ends; the rest is for comparing."""


@dataclass(frozen=True)
class Benchmark:
    """What is to be measured."""

    manifest: Manifest
    task: Task
    asked: dict[str, Any]
    """Parameters of the requests, besides prompt, seed and image."""
    count: int
    """Results of each side."""
    seed: int
    """Draws the prompts; result i has the seed that is i higher."""
    seconds: float
    """The most that it may take."""
    quality: bool
    """Whether the results are compared."""


async def measure(settings: Settings, wanted: Benchmark) -> dict[str, Any]:
    """Run both sides, and return the report. The results are removed.

    Raises:
        UserError: The request is refused, or other jobs wait or run, or come before our first.
    """
    open_home(settings.home)
    make_folder(settings.home / "tmp")
    with tempfile.TemporaryDirectory(prefix="bench-", dir=settings.home / "tmp") as scratch:
        requests = _requests(wanted, Path(scratch))
        async with serving(settings, any_image_folder=True) as service:
            await require_quiet(service)
            await _announce(service, requests, wanted.seconds)
            await run_sync(stop_idle_engines, settings)
            jobs: list[Job] = []
            try:
                return await _both(service, wanted, requests, jobs, Path(scratch))
            finally:
                with anyio.CancelScope(shield=True):
                    await remove(service, jobs)


async def _both(
    service: JobService,
    wanted: Benchmark,
    requests: list[VideoRequest | ImageRequest],
    jobs: list[Job],
    folder: Path,
) -> dict[str, Any]:
    """Run both sides, and return the report; our jobs are added to `jobs` as they begin."""
    began = time.monotonic()
    until = began + PLAIN_SHARE * wanted.seconds
    with Screen().status("wan-mcp") as status:

        def tell(side: str, number: int) -> None:
            status.update(f"{side}: {min(number, wanted.count)} of {wanted.count}")

        ours = await run_ours(service, requests, began + OUR_SHARE * wanted.seconds, jobs, tell)
        if not jobs:
            raise BadRequest(f"nothing was measured: {ours.ended}; run the benchmark again when it has ended")
        plain = Side(ended="there is nothing to compare with")
        if ours.seconds:
            plain = await _other_side(service, jobs[: len(ours.seconds)], folder, until, tell)
        plan: Any = jobs[0].plan
        found = None
        if wanted.quality:
            status.update("comparing")
            found = await run_sync(compared, ours.files, plain.files, (plan.width, plan.height))
    return report_of(wanted.manifest, plan, wanted.seed, ours, plain, found, service.settings)


async def _other_side(
    service: JobService, jobs: list[Job], folder: Path, until: float, tell: Callable[[str, int], None]
) -> Side:
    """Return what `run_plain` does, after our engine has ended; nothing, if that engine has another job."""
    if await other_jobs(service):
        return Side(ended=CAME)
    try:
        await run_sync(stop_idle_engines, service.settings)
    except BadRequest as error:
        log.warning("no comparison: %s", error)
        return Side(ended="the engine did not end")
    return await run_plain(service, jobs, folder, until, tell)


def _requests(wanted: Benchmark, folder: Path) -> list[VideoRequest | ImageRequest]:
    picture = _picture(folder) if wanted.task in (Task.IMAGE_TO_VIDEO, Task.IMAGE_TO_IMAGE) else None
    prompts = drawn_prompts(wanted.manifest, wanted.count, wanted.seed, edits=wanted.task is Task.IMAGE_TO_IMAGE)
    kind = VideoRequest if wanted.task.kind is Kind.VIDEO else ImageRequest
    return [
        kind(prompt=prompt, image=picture, seed=(wanted.seed + number) % (MAX_SEED + 1), **wanted.asked)
        for number, prompt in enumerate(prompts)
    ]


async def _announce(service: JobService, requests: list[VideoRequest | ImageRequest], seconds: float) -> None:
    """Say what will happen and how long it takes.

    Raises:
        UserError: The request is refused.
        BadRequest: It does not fit the memory, or one result takes longer than each side has.
    """
    found = await service.estimate(requests[0])
    if found.misfit is not None:
        raise BadRequest(found.misfit)
    for_each = OUR_SHARE * seconds
    if found.seconds is not None and found.seconds > for_each:
        raise BadRequest(
            f"one result takes about {duration(found.seconds)} here, and each side has {duration(for_each)}; allow "
            "more --minutes, or ask for fewer --steps or --frames"
        )
    about = "" if found.seconds is None else f" (wan-mcp needs about {duration(found.seconds)} for one)"
    Screen().print(
        in_cli_words(
            f"{len(requests)} times {what_it_makes(found.plan)}, by wan-mcp and then by plain diffusers{about}. It "
            f"takes at most {duration(seconds, precise=False)}, and ends early if another job comes."
        )
    )


def _picture(folder: Path) -> str:
    """Draw the start image for models that need one, hills under a sky; return its path."""
    from PIL import Image, ImageDraw

    picture = Image.linear_gradient("L").resize((1280, 720)).convert("RGB")
    draw = ImageDraw.Draw(picture)
    draw.ellipse((-200, 420, 800, 1200), fill=(60, 110, 70))
    draw.ellipse((500, 500, 1600, 1300), fill=(40, 80, 60))
    draw.ellipse((900, 80, 1040, 220), fill=(240, 220, 140))
    file = folder / "start.png"
    picture.save(file)
    return str(file)
