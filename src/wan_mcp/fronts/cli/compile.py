"""`wan-mcp compile`: build a model's block packages in advance, so that even the first job runs compiled."""

import json
import subprocess
import sys

import typer

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.child_environment import child_environment
from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import BuildFailed, BuildRequest, build
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.model_argument import ModelArgument
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.permissions import append_to, open_home
from wan_mcp.settings import Settings

__all__ = ["compile_model"]

AOT_TARGETS = "wan_mcp.engine.families.aot_targets_main"
FAILED = 1
INTERRUPTED = 130


def compile_model(
    ctx: typer.Context,
    model: ModelArgument = None,
) -> None:
    """Compile a model's blocks for this machine. Takes minutes, once per torch version.

    Optional: jobs never wait for it. Until the blocks are compiled, jobs run eagerly.
    """
    settings: Settings = ctx.obj
    name = model or settings.video_model
    Catalog.of(settings.home).get(name)  # refuses an unknown name before torch is loaded
    wanted = _resolve(name, settings)
    if not wanted:
        echo(f"Nothing to compile: on this device and in this precision, '{name}' uses the stock diffusers blocks.")
        return
    open_home(settings.home)
    for number, each in enumerate(wanted, 1):
        _build(each, settings, f"{number} of {len(wanted)}" if len(wanted) > 1 else "the package")


def _resolve(name: str, settings: Settings) -> list[BuildRequest]:
    process = child_process.start(
        ["-m", AOT_TARGETS, name],
        child_environment() | settings.environment(),
        output=subprocess.PIPE,
        errors=None,
    )
    try:
        output = b""
        if process.stdout is not None:
            with process.stdout as pipe:
                output = pipe.read()
        process.wait()
    finally:
        child_process.end(process)
    if process.returncode:
        raise BadRequest(
            "cannot determine what to compile; the reason is above. 'wan-mcp doctor' checks the torch installation"
        )
    answer = json.loads(output.splitlines()[-1])
    if "error" in answer:
        raise BadRequest(answer["error"])
    return [BuildRequest(**each) for each in answer["wanted"]]


def _build(wanted: BuildRequest, settings: Settings, what: str) -> None:
    from wan_mcp.fronts.cli.screen import Screen

    screen = Screen()
    try:
        with append_to(settings.log_file) as log, screen.status(f"{what}: waiting for another build") as status:
            fresh = build(wanted, settings.home, lambda words: status.update(f"{what}: {words}"), log)
    except KeyboardInterrupt:
        screen.print("Stopped. The unfinished build was discarded.")
        sys.exit(INTERRUPTED)
    except (BuildFailed, OSError) as error:
        screen.print(f"{what} could not be built: {str(error).rstrip('.')}.", style="red")
        screen.print(f"'wan-mcp doctor' checks the compiler; the log is {settings.log_file}")
        sys.exit(FAILED)
    echo(f"{settings.home / 'packages' / f'{wanted.name}.pt2'}{'' if fresh else ' (already built)'}")
