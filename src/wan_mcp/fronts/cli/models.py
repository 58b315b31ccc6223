"""`wan-mcp models`: list the models, show one, and check a manifest."""

import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import Annotated, Any

import typer

from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Placement, default_shape, fits, needed_bytes, placement_for, weights_bytes
from wan_mcp.fronts.cli.command_tree import DefaultVerb
from wan_mcp.fronts.cli.completion import complete_models
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.fronts.cli.usage_errors import in_cli_words
from wan_mcp.hardware.machine import Machine, this_machine
from wan_mcp.schema.enums import Task
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes, one_line
from wan_mcp.weights.installed import is_installed

__all__ = ["app"]

WIDE = 140
"""Terminal columns that the table needs without cutting words."""
FACTS = ("sizes", "length", "licence", "weights")
INDENT = "    "

app = typer.Typer(
    cls=DefaultVerb,
    help="List models, show one (models NAME), check a manifest.",
    invoke_without_command=True,
    rich_markup_mode=None,
    subcommand_metavar="[NAME | COMMAND] [ARGS]...",
)


@app.callback()
def default(
    ctx: typer.Context,
    styles: Annotated[bool, typer.Option("--styles", help="List the style presets instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List models: their tasks, sizes and licences, and whether their weights are downloaded. NAME shows one."""
    if ctx.invoked_subcommand is not None:
        return
    settings: Settings = ctx.obj
    catalog = Catalog.of(settings.home)
    if styles:
        for name, template in catalog.styles.items():
            echo(one_line(f"{name}: {template}"))
    elif as_json:
        typer.echo(json.dumps([_as_json(each, settings) for each in _sorted(catalog)], indent=2))
    else:
        _list(catalog, settings)
    for error in catalog.broken.values():
        echo(one_line(f"not usable: {error}"), fg="red", err=True)


@app.command()
def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="Model name.", autocompletion=complete_models)],
    as_json: Annotated[bool, typer.Option("--json", help="Print its manifest as JSON.")] = False,
) -> None:
    """Show one model: its sizes, lengths, limits, presets and licence, and whether it fits this machine."""
    settings: Settings = ctx.obj
    manifest = Catalog.of(settings.home).get(name)
    if as_json or (ctx.parent is not None and ctx.parent.params.get("as_json")):
        typer.echo(json.dumps(_as_json(manifest, settings), indent=2))
        return
    import anyio

    from wan_mcp.fronts.mcp.model_list import ModelLists
    from wan_mcp.service.service import serving

    async def words() -> str:
        async with serving(settings) as service:
            return await ModelLists(service).described(manifest.name)

    echo(in_cli_words(anyio.run(words)))


def _as_json(manifest: Manifest, settings: Settings) -> dict[str, Any]:
    return manifest.model_dump(mode="json") | {"ready": is_installed(manifest, settings.home)}


@app.command()
def check(file: Annotated[Path, typer.Argument(help="A manifest (TOML).")]) -> None:
    """Check a manifest and report what is wrong with it."""
    manifest = Manifest.read(file, echo)
    echo(f"{file}: '{manifest.name}' is a valid manifest ({', '.join(manifest.tasks)})")


def _sorted(catalog: Catalog) -> list[Manifest]:
    return [catalog.manifests[name] for name in sorted(catalog.manifests)]


def _list(catalog: Catalog, settings: Settings) -> None:
    from wan_mcp.fronts.cli.screen import Screen

    machine, console = this_machine(settings), Screen(stderr=False)
    models = [_described(manifest, machine, settings) for manifest in _sorted(catalog)]
    if console.width < WIDE:
        for model in models:
            echo(_in_lines(model, _titled(machine), console.width))
    else:
        console.print(_table(models, _titled(machine)))
    for manifest in _sorted(catalog):
        if manifest.licence.conditions:
            echo(one_line(f"{manifest.name}: {manifest.licence.conditions}"))


@dataclass(frozen=True)
class _Described:
    """A model in words."""

    name: str
    tasks: tuple[str, ...]
    facts: tuple[str, ...]
    """One for each of `FACTS`; empty where it does not apply."""
    verdict: str
    """On this machine."""


def _described(manifest: Manifest, machine: Machine, settings: Settings) -> _Described:
    frames = manifest.frames.in_words() if manifest.frames else ""
    licence = manifest.licence.id + (" (gated)" if manifest.licence.gated else "")
    facts = (_sizes(manifest), frames, one_line(licence), _weights(manifest, settings))
    return _Described(one_line(manifest.name), manifest.tasks, facts, _verdict(machine, manifest, settings))


def _table(models: list[_Described], machine: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("model", no_wrap=True)
    table.add_column("does", no_wrap=True, min_width=max(len(task) for task in Task))
    for column in (*FACTS, machine):
        table.add_column(column, overflow="fold")
    for model in models:
        table.add_row(model.name, "\n".join(model.tasks), *model.facts, model.verdict)
    return table


def _in_lines(model: _Described, machine: str, width: int) -> str:
    """Return a model as lines, for terminals too narrow for the table: name and tasks, then the other facts."""
    facts = [f"{name} {fact}" for name, fact in zip(FACTS, model.facts, strict=True) if fact]
    said = [f"{model.name}: {', '.join(model.tasks)}", "; ".join(facts), f"{machine}: {model.verdict}"]
    kept = said if model.verdict else said[:2]
    return "\n".join(
        fill(line, width, initial_indent=INDENT * (place > 0), subsequent_indent=INDENT * 2, break_on_hyphens=False)
        for place, line in enumerate(kept)
    )


def _titled(machine: Machine) -> str:
    return machine.name if machine.memory is None else f"{machine.name} of {in_bytes(machine.memory)}"


PLACES = {
    Placement.SWAPPED: ", one expert at a time",
    Placement.OFFLOADED: ", streamed from main memory",
}


def _verdict(machine: Machine, manifest: Manifest, settings: Settings) -> str:
    """Describe whether and how a default result fits in memory; empty if the manifest has no sizes of weights."""
    precision = machine.precision_of(manifest, settings.precision)
    weights = weights_bytes(manifest, precision)
    if weights is None or not manifest.weights.memory_bytes:
        return ""
    words, usual = f"{in_bytes(weights)} in {precision}", default_shape(manifest)
    if machine.memory is None:
        return words
    if not fits(manifest, machine.memory, precision, usual):
        return f"{words}: {in_bytes(needed_bytes(manifest, precision, usual) - machine.memory)} too large"
    return words + PLACES.get(placement_for(manifest, machine.memory, precision), "")


def _sizes(manifest: Manifest) -> str:
    """Return the default size and the number of others; --json lists them all."""
    if manifest.sizes is None:
        return ""
    size, more = manifest.sizes.default_size, len(manifest.sizes.named) - 1
    return f"{size.width}x{size.height}" + (f" and {more} more" if more else "")


def _weights(manifest: Manifest, settings: Settings) -> str:
    if manifest.weights.embedded is not None:
        return "in the package"
    size = in_bytes(manifest.weights.disk_bytes)
    return f"downloaded, {size}" if is_installed(manifest, settings.home) else f"not downloaded, {size}"
