"""`wan-mcp bench`: what it asks for, and where the figures go."""

import json
import sys
import tempfile
from pathlib import Path
from random import SystemRandom
from typing import Annotated, Any

import anyio
import typer

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import BadRequest, WeightsUnavailable
from wan_mcp.fronts.cli.model_argument import ModelArgument
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.schema.enums import Kind, Task
from wan_mcp.schema.parameters import MAX_SEED
from wan_mcp.settings import Settings
from wan_mcp.text import one_line
from wan_mcp.weights.installed import is_installed

__all__ = ["bench"]

FAILED, INTERRUPTED = 1, 130
RUNS, RUNS_OF_QUALITY = 3, 5
TASKS = (Task.TEXT_TO_VIDEO, Task.IMAGE_TO_VIDEO, Task.TEXT_TO_IMAGE, Task.IMAGE_TO_IMAGE)
"""What plain diffusers can be asked for as well."""


def bench(
    ctx: typer.Context,
    model: ModelArgument = None,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also compare the results with those of diffusers: PSNR, SSIM, flicker.")
    ] = False,
    runs: Annotated[
        int | None, typer.Option(min=2, max=100, help="Results of each side. Default: 3, with --quality 5.")
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, max=120, help="The most that it may take.")] = 10,
    preset: Annotated[str | None, typer.Option(help="Preset of our side: draft, standard or best.")] = None,
    resolution: Annotated[str | None, typer.Option(help="Size name, or WIDTHxHEIGHT.")] = None,
    frames: Annotated[int | None, typer.Option(min=1, help="Frames of a video.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Denoising steps.")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=MAX_SEED, help="Draws the prompts and the seeds. Default: random.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="JSON file to write, to be shared.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output file.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a model on this machine: our seconds and memory, and those of plain diffusers, in the same run.

    No other job may wait or run meanwhile. The engine is stopped before each side begins, so that both have the device
    for themselves. Nothing is sent anywhere; the JSON has no paths and no prompts.
    """
    from wan_mcp.fronts.cli.bench.measure import Benchmark, measure

    settings: Settings = ctx.obj
    # One GPU, as diffusers has; and results that are neither kept nor signed nor announced.
    ours = {"gpus_per_job": "1", "output_dir": None, "c2pa_cert": None, "c2pa_key": None, "on_done": ""}
    settings = settings.model_copy(update=ours)
    manifest = Catalog.of(settings.home).get(model or settings.video_model)
    task = _task_of(manifest)
    if not is_installed(manifest, settings.home):
        raise WeightsUnavailable(
            "model_not_local",
            f"the weights of '{manifest.name}' are not on this machine, and a benchmark downloads nothing; get them "
            f"with 'wan-mcp pull {manifest.name}'",
        )
    if output is not None:
        _check_target(output, force=force)
    asked: dict[str, Any] = {"model": manifest.name, "preset": preset, "resolution": resolution, "steps": steps}
    if task.kind is Kind.VIDEO:
        asked["num_frames"] = frames
    elif frames is not None:
        raise BadRequest(f"'{manifest.name}' makes images, which have no --frames; omit it")
    count = runs or (RUNS_OF_QUALITY if quality else RUNS)
    drawn = seed if seed is not None else SystemRandom().randrange(MAX_SEED)
    wanted = Benchmark(manifest, task, asked, count, drawn, 60 * minutes, quality)
    try:
        report = anyio.run(measure, settings, wanted)
    except KeyboardInterrupt:
        echo("Stopped. Nothing was kept.", err=True)
        sys.exit(INTERRUPTED)
    _deliver(report, output, force=force, as_json=as_json)


def _task_of(manifest: Manifest) -> Task:
    """Return the first of a model's tasks that plain diffusers does as well.

    Raises:
        BadRequest: there is none.
    """
    if manifest.family.package:
        raise BadRequest(
            f"'{manifest.name}' is run by the code of {manifest.family.package}; there is nothing to compare with"
        )
    for task in manifest.tasks:
        if task in TASKS:
            return task
    raise BadRequest(
        f"'{manifest.name}' makes no videos or images. A captioner is run as transformers has it, so there is nothing "
        "to compare; choose another model of 'wan-mcp models'"
    )


def _check_target(output: Path, *, force: bool) -> None:
    if not output.absolute().parent.is_dir():
        raise BadRequest(f"no folder {output.absolute().parent}; create it or choose another -o")
    if output.exists() and not (force and output.is_file()):
        raise BadRequest(f"{one_line(str(output))} already exists; choose another -o or add --force")
    try:
        with tempfile.TemporaryFile(dir=output.absolute().parent):  # before it takes minutes
            pass
    except OSError as error:
        raise _unwritable(output, error) from error


def _unwritable(output: Path, error: OSError) -> BadRequest:
    return BadRequest(f"{one_line(str(output))} cannot be written ({error.strerror}); choose another -o")


def _deliver(report: dict[str, Any], output: Path | None, *, force: bool, as_json: bool) -> None:
    """Print a report, and write it; exits if our side has not made anything."""
    from wan_mcp.files import atomic_file
    from wan_mcp.fronts.cli.bench.report import lines_of

    text = json.dumps(report, indent=2, ensure_ascii=False)
    if as_json:
        typer.echo(text)
    else:
        for line in lines_of(report):
            echo(line)
    if output is not None:
        try:
            with atomic_file(output, replace=force) as file:
                file.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(output, error) from error
    if not report["ours"]["seconds"]:
        sys.exit(FAILED)
