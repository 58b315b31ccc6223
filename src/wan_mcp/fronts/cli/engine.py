"""`wan-mcp engine`: run the engine of a device; see and stop the engines that run."""

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer

from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.jobs.cluster_devices import is_cluster_device
from wan_mcp.logs import log_to_stderr
from wan_mcp.service.engine_control import EngineStatus, engines_of, stop_engine
from wan_mcp.settings import Settings

__all__ = ["app"]

STOP_S = 60.0
NOT_STOPPED = 1
NONE_RUNS = "no engine is running"

app = typer.Typer(
    help="Run the engine of a device (started automatically when a job needs it); see or stop engines.",
    invoke_without_command=True,
    rich_markup_mode=None,
)


@app.callback()
def run(ctx: typer.Context) -> None:
    """Run the engine of a device (started automatically when a job needs it); see or stop engines."""
    if ctx.invoked_subcommand is not None:
        if ctx.parent is not None and ctx.parent.params.get("log_level") is None:
            log_to_stderr("CRITICAL")  # only an engine's own stderr is a log
        return
    from wan_mcp.child_environment import temporary_in
    from wan_mcp.engine.worker.loop import run_engine

    with suppress(OSError):  # a home that cannot be used: the engine says so
        os.environ.update(temporary_in(ctx.obj.home))  # before libraries read it

    def build(settings: Settings):  # type: ignore[no-untyped-def]  # its type would import torch
        from wan_mcp.engine.runner import build_runner

        return build_runner(settings)

    def all_devices() -> tuple[str, ...]:
        from wan_mcp.engine.device.device import auto_devices

        return auto_devices()

    run_engine(ctx.obj, build, all_devices)


@app.command()
def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show the engines that run: their devices, models and jobs."""
    settings: Settings = ctx.obj
    found = engines_of(settings.home)
    if as_json:
        facts = [asdict(each) for each in found]
        typer.echo(json.dumps([{key: each[key] for key in each if key != "identity"} for each in facts], indent=2))
        return
    for each in found:
        echo(_in_words(each))
    if not found:
        echo(f"{NONE_RUNS}; the next job starts one")


def _in_words(engine: EngineStatus) -> str:
    does = f"runs job {engine.job}" if engine.job else "is idle" if engine.ready else "is starting"
    holds = f", has {' and '.join(engine.models)} in memory" if engine.models else ""
    waits = f", {engine.queued} queued" if engine.queued else ""
    who = "the cluster's engine" if is_cluster_device(engine.device) else f"process {engine.pid}"
    return f"{engine.device}: {who} {does}{holds}{waits}"


@app.command()
def stop(
    ctx: typer.Context,
    force: Annotated[
        bool, typer.Option("--force", help="Also while a job runs; that job begins again with the next engine.")
    ] = False,
) -> None:
    """Stop the engines that run and free their memory. The next job starts one again."""
    settings: Settings = ctx.obj
    engines = engines_of(settings.home)
    found = [each for each in engines if not is_cluster_device(each.device)]
    if len(found) < len(engines):
        echo("the engines of the cluster end with the command 'wan-mcp cluster'")
    for each in found:
        if not stop_engine(settings.home, each, seconds=STOP_S, force=force):
            echo(f"the engine of {each.device} (process {each.pid}) has not stopped yet", fg="red", err=True)
            sys.exit(NOT_STOPPED)
        echo(f"stopped the engine of {each.device} (process {each.pid})")
    if not engines:
        echo(NONE_RUNS)
