"""Write every generated part of the documentation; `--check` reports the parts that are out of date.

A generated part stands between two comments in a page. Everything around it is written by hand. The parts follow from
the code, from the manifests, and from the results of benchmarks.

    python scripts/generate_docs.py [--check] [ROOT]    # ROOT holds the pages; by default, this checkout
"""

import argparse
import difflib
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import typer

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.fronts.cli.main import app
from wan_mcp.fronts.cli.settings_options import default_in_words, variable
from wan_mcp.fronts.hosts.entries import snippet
from wan_mcp.fronts.hosts.registry import HOSTS, Host, Launch
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings
from wan_mcp.text import in_bytes

ROOT = Path(__file__).parents[1]
SENTENCE = re.compile(r"\.\s")
RECORD = re.compile(
    r"# (?P<number>\d+)\. (?P<title>.+)\n\nDate: (?P<date>\d{4}-\d\d-\d\d)\. Status: (?P<status>[^.\n]+)\."
)
HELP_WIDTH = 100
OF_WAYS = (("psnr_db", 1), ("ssim", 3), ("lpips", 4), ("flicker", 2), ("right_less_exact", 2))
LIKENESS = (("psnr_db", 1), ("ssim", 3))
"""Figures of benchmarks.quality and of `wan-mcp bench --quality`, and their digits."""
LAUNCH = Launch("/absolute/path/to/wan-mcp", ("stdio",))
"""The command in configurations that are shown to everybody."""


def tools() -> Iterator[str]:
    """Yield the table of the tools, each with its parameters, as a client lists them."""
    yield "| tool | what it does | parameters |"
    yield "|---|---|---|"
    with tempfile.TemporaryDirectory() as home:
        listed: list[Any] = anyio.run(build_server(JobService(Settings(home=Path(home)))).list_tools)
    for tool in listed:
        required = tool.input_schema.get("required", [])
        parameters = ", ".join(
            f"**`{name}`**" if name in required else f"`{name}`" for name in tool.input_schema["properties"]
        )
        yield f"| `{tool.name}` | {_cell(SENTENCE.split(tool.description)[0].rstrip('.'))} | {parameters} |"


def settings() -> Iterator[str]:
    """Yield the table of the settings, each with its variable, flag and default."""
    yield "| variable, flag | default | what it sets |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "your data folder" if name == "home" else f"`{default_in_words(name)}`"
        yield f"| `{variable(name)}`<br>`--{name.replace('_', '-')}` | {default} | {_cell(field.description or '')} |"


def commands() -> Iterator[str]:
    """Yield the help of every command."""
    root = typer.main.get_command(app)
    for path, command in _commands(root, ("wan-mcp",)):
        yield f"## {' '.join(path)}"
        yield ""
        yield "```text"
        yield _help(command, path)
        yield "```"
        yield ""


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))


def _help(command: Any, path: tuple[str, ...]) -> str:
    context = command.context_class(
        command,
        info_name=" ".join(path),
        terminal_width=HELP_WIDTH,
        max_content_width=HELP_WIDTH,
        help_option_names=["-h", "--help"],  # as the root sets it
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())


def models() -> Iterator[str]:
    """Yield the table of the models that are downloaded, one row a manifest."""
    yield "| model | does | sizes | frames | steps | download | memory | licence |"
    yield "|---|---|---|---|---|---|---|---|"
    for _, manifest in sorted(Catalog(shipped_folder()).manifests.items()):
        if manifest.weights.repository is not None:
            yield f"| {' | '.join(_model_cells(manifest))} |"


def _model_cells(manifest: Manifest) -> Iterator[str]:
    weights, frames, sizes = manifest.weights, manifest.frames, manifest.sizes
    yield f"`{manifest.name}`<br>{weights.repository}"
    yield ", ".join(manifest.tasks)
    yield ", ".join(f"{r.width}×{r.height}{'' if r.official else '*'}" for r in sizes.named) if sizes else ""
    yield f"up to {frames.maximum} at {frames.fps:g} fps" if frames else ""
    yield str(manifest.defaults.steps) if sizes else ""
    yield in_bytes(weights.disk_bytes)
    yield ", ".join(f"{name} {in_bytes(count)}" for name, count in weights.memory_bytes.items())
    marks = [
        word
        for word, is_so in (("gated", manifest.licence.gated), ("conditions", manifest.licence.conditions))
        if is_so
    ]
    yield manifest.licence.id + (f" ({', '.join(marks)})" if marks else "")


def h200() -> Iterator[str]:
    """Yield the table of what was measured on an H200."""
    sys.path.insert(0, str(ROOT))  # benchmarks are not installed
    from benchmarks.h200.table import RESULT, table

    yield table(json.loads(RESULT.read_text(encoding="utf-8"))["rows"])


def cards() -> Iterator[str]:
    """Yield the table of what fits on which card."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.cards import fit_table

    yield from fit_table()


def seconds() -> Iterator[str]:
    """Yield the table of seconds, measured and computed."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.cards import seconds_table

    yield from seconds_table()


def emulated() -> Iterator[str]:
    """Yield the table of emulated cards; nothing while it was not measured."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.cards import emulated_table

    yield from emulated_table()


def decisions() -> Iterator[str]:
    """Yield the table of the decision records, each with its title, date and status.

    Raises:
        ValueError: a record does not begin with them.
    """
    yield "| | decision | date | status |"
    yield "|---|---|---|---|"
    for record in sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md")):
        found = RECORD.match(record.read_text(encoding="utf-8"))
        if found is None:
            raise ValueError(
                f"{record} must begin with '# N. Title', an empty line, 'Date: YYYY-MM-DD. Status: accepted.'"
            )
        yield f"| [{found['number']}]({record.name}) | {_cell(found['title'])} | {found['date']} | {found['status']} |"


def hosts() -> Iterator[str]:
    """Yield the table of the hosts' files, and each form of configuration with those that have it."""
    yield "| host | command | Linux | macOS | Windows |"
    yield "|---|---|---|---|---|"
    for host in HOSTS:
        places = [host.written_file(system) for system in ("linux", "darwin", "win32")]
        if any(places):
            files = " | ".join(f"`{place}`" if place else "–" for place in places)
            yield f"| [{host.title}]({host.source}) | `wan-mcp setup {host.name}` | {files} |"
    forms: dict[str, list[Host]] = {}
    for host in HOSTS:
        forms.setdefault(snippet(host, host.stdio(LAUNCH)), []).append(host)
    for text, having in forms.items():
        yield ""
        names = [f"{host.title} ({host.found_at})" if host.found_at else host.title for host in having]
        yield f"{', '.join(names)}:"
        yield ""
        yield from (f"    {line}" for line in text.splitlines())


def quality() -> Iterator[str]:
    """Yield the table of how close each way to run the small model is to the exact one, on a CPU."""
    yield from _ways("quality.json", timed=False)  # bits are emulated there, so their seconds say nothing


def quality_gpu() -> Iterator[str]:
    """Yield the same of a GPU; nothing while it was not measured."""
    if (ROOT / "benchmarks/results/quality_gpu.json").exists():
        yield from _ways("quality_gpu.json", timed=True)


def _ways(name: str, *, timed: bool) -> Iterator[str]:
    found = json.loads((ROOT / "benchmarks/results" / name).read_text(encoding="utf-8"))
    yield f"{found['rows'][0]['videos']} videos of each; {found['hardware']}, torch {found['versions']['torch']}."
    yield ""
    columns = ["way", *(["seconds"] if timed else []), "PSNR dB", "SSIM", "LPIPS", "flicker", "right"]
    yield f"| {' | '.join(columns)} |"
    yield "|---" * len(columns) + "|"
    for row in found["rows"][1:]:
        if "failed" not in row:
            figures = [f"{row['seconds_median']:.2f}"] if timed else []
            figures += [_with_interval(row.get(figure), digits) for figure, digits in OF_WAYS]
            yield f"| {row['variant']} | {' | '.join(figures)} |"


def presets() -> Iterator[str]:
    """Yield the table of presets: quality and seconds."""
    sys.path.insert(0, str(ROOT))
    from benchmarks.cards import presets_table

    yield from presets_table()


def bench() -> Iterator[str]:
    """Yield the table of what `wan-mcp bench` has measured on several machines."""
    yield "| model | result | steps | device | first s | warm s | diffusers first s | warm s | PSNR dB | SSIM |"
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for file in sorted((ROOT / "benchmarks/results/bench").glob("*.json")):
        found = json.loads(file.read_text(encoding="utf-8"))
        asked, ours, plain = found["request"], found["ours"], found["diffusers"]
        frames = f", {asked['num_frames']} frames" if "num_frames" in asked else ""
        turbo = ", turbo" if asked.get("turbo") else ""
        seconds = [_seconds(side[name]) for side in (ours, plain) for name in ("first_s", "warm_s")]
        likeness = [_with_interval((found["quality"] or {}).get(name), digits) for name, digits in LIKENESS]
        note = f", {found['note']}" if "note" in found else ""
        cells = [f"`{found['model']}`{turbo}{note}", f"{asked['width']}×{asked['height']}{frames}", str(asked["steps"])]
        device = (
            f"{found['hardware']['device'].partition(',')[0]}, {ours['precision']}, torch {found['versions']['torch']}"
        )
        yield f"| {' | '.join([*cells, device, *seconds, *likeness])} |"


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _with_interval(figure: dict[str, float] | None, digits: int) -> str:
    if figure is None:
        return "–"
    mean, low, high = (f"{figure[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "tools": ("README.md", tools),
    "settings": ("docs/settings.md", settings),
    "commands": ("docs/commands.md", commands),
    "hosts": ("docs/clients.md", hosts),
    "models": ("docs/models.md", models),
    "h200": ("docs/engine.md", h200),
    "cards": ("docs/gpu.md", cards),
    "seconds": ("docs/gpu.md", seconds),
    "emulated": ("docs/gpu.md", emulated),
    "bench": ("docs/gpu.md", bench),
    "quality": ("docs/quality.md", quality),
    "quality on a GPU": ("docs/quality.md", quality_gpu),
    "presets": ("docs/quality.md", presets),
    "decisions": ("docs/decisions/README.md", decisions),
}


def renewed(page: str, part: str, lines: Iterator[str]) -> str:
    """Return the page with one part replaced by `lines`.

    Raises:
        ValueError: the page has no place for that part.
    """
    begin, end = f"<!-- generated: {part}; run make docs -->", f"<!-- end of {part} -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the page lacks '{begin}' or '{end}'")
    made = "\n".join(lines).rstrip()
    return f"{before}{begin}\n{made}\n{end}{after}"


def main(arguments: list[str]) -> int:
    """Write all parts, or report which are out of date and how; return 1 if `--check` finds one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a part is out of date")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="the folder of the pages")
    options = parser.parse_args(arguments)
    stale = 0
    for part, (name, lines) in PARTS.items():
        page = options.root / name
        old = page.read_text(encoding="utf-8")
        new = renewed(old, part, lines())
        if new == old:
            continue
        stale += 1
        if options.check:
            print(f"{name}: '{part}' is out of date; run make docs")
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, name, n=0))
        else:
            page.write_text(new, encoding="utf-8")
            print(f"{name}: '{part}' written")
    return 1 if options.check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
