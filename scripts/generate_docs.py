"""Write the parts of the documentation that follow from the code; `--check` says whether they are up to date.

A generated part stands between two comments in a page; everything around it is written by hand.
"""

import difflib
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import typer

from wan_mcp.fronts.cli.main import app
from wan_mcp.fronts.cli.settings_options import default_in_words, variable
from wan_mcp.fronts.mcp.server import build_server
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

ROOT = Path(__file__).parents[1]
SENTENCE = re.compile(r"\.\s")
HELP_WIDTH = 100


def tools() -> Iterator[str]:
    """The tools as a client gets them, each with its parameters."""
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
    """Every setting with its variable, flag and default."""
    yield "| variable, flag | default | what it sets |"
    yield "|---|---|---|"
    for name, field in Settings.model_fields.items():
        default = "your data folder" if name == "home" else f"`{default_in_words(name)}`"
        yield f"| `{variable(name)}`<br>`--{name.replace('_', '-')}` | {default} | {_cell(field.description or '')} |"


def commands() -> Iterator[str]:
    """The help of every command."""
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
        command, info_name=" ".join(path), terminal_width=HELP_WIDTH, max_content_width=HELP_WIDTH
    )
    return "\n".join(line.rstrip() for line in command.get_help(context).strip().splitlines())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


PARTS: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
    "tools": ("README.md", tools),
    "settings": ("README.md", settings),
    "commands": ("docs/commands.md", commands),
}


def renewed(page: str, part: str, lines: Iterator[str]) -> str:
    """The page with a part written anew.

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


def main(check: bool) -> int:
    """Write all parts, or say which are out of date and how; 1 if there is one."""
    stale = 0
    for part, (name, lines) in PARTS.items():
        page = ROOT / name
        old = page.read_text(encoding="utf-8")
        new = renewed(old, part, lines())
        if new == old:
            continue
        stale += 1
        if check:
            print(f"{name}: '{part}' is out of date; run make docs")
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, name, n=0))
        else:
            page.write_text(new, encoding="utf-8")
            print(f"{name}: '{part}' written")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(check="--check" in sys.argv[1:]))
