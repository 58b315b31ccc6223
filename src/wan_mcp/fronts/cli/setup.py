"""`wan-mcp setup`: write this server into the configuration of a program that uses MCP servers."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from wan_mcp.errors import BadRequest, UserError
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.fronts.cli.usage_errors import USAGE
from wan_mcp.fronts.hosts.configure import Done, HostFileUnusable, configured, set_up, undo
from wan_mcp.fronts.hosts.entries import launch, passing_place, snippet
from wan_mcp.fronts.hosts.registry import HOSTS, SERVER, Host, find_host
from wan_mcp.text import one_line

__all__ = ["setup"]

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def _complete(incomplete: str) -> list[str]:
    return [host.name for host in HOSTS if host.name.startswith(incomplete)]


def setup(
    ctx: typer.Context,
    host: Annotated[
        str | None,
        typer.Argument(
            help=f"{', '.join(host.name for host in HOSTS)}. Without one, all are listed.", autocompletion=_complete
        ),
    ] = None,
    show: Annotated[bool, typer.Option("--print", help="Print the configuration and write nothing.")] = False,
    take_back: Annotated[bool, typer.Option("--undo", help="Undo the last setup of this program.")] = False,
    file: Annotated[
        Path | None,
        typer.Option("--file", help="Another file of the program, such as .cursor/mcp.json of a project."),
    ] = None,
    name: Annotated[str, typer.Option("--name", help="The server's name in the configuration.")] = SERVER,
) -> None:
    """Connect a program: write this server into its configuration, with absolute paths.

    Everything else in the file stays. Settings that differ from their defaults go with it:
    wan-mcp setup claude --video-model wan2.2-ti2v-5b.
    """
    if not NAME.fullmatch(name):
        raise BadRequest("--name: letters, digits, '-' and '_' only, at most 64")
    if show and take_back:
        raise BadRequest("--print and --undo exclude each other")
    if host is None:
        if show or take_back or file is not None:
            raise BadRequest(f"name the program: {', '.join(each.name for each in HOSTS)}")
        _list(name)
        return
    chosen = find_host(host)
    start = launch(ctx.obj)
    entry = chosen.stdio(start)
    text = snippet(chosen, entry, name)
    place = file.expanduser().absolute() if file is not None else chosen.file()
    if passing_place(start) and not take_back:
        echo(
            f"Note: {start.command} is in uv's cache, which is emptied at times. Install wan-mcp to stay: "
            "uv tool install, or pipx install; then run setup again.",
            fg="yellow",
            err=True,
        )
    if show:
        echo(f"For {_where(chosen, place)}:", err=True)
        echo(text)
        return
    if place is None:
        raise _by_hand(f"wan-mcp does not know where {chosen.title} keeps its file; --file names it", chosen, text)
    try:
        done = undo(chosen, place, name) if take_back else set_up(chosen, place, entry, name)
    except HostFileUnusable as error:
        if take_back:
            raise
        raise _by_hand(f"{error}; nothing was changed", chosen, text) from error
    _report(chosen, done, name, undone=take_back)


def _by_hand(why: str, host: Host, text: str) -> typer.Exit:
    """Print why a file was not written and the text to paste, and return the end of the command."""
    echo(f"{one_line(why)}. Add this by hand{f', at {host.found_at}' if host.found_at else ''}:", fg="red", err=True)
    echo(text)
    return typer.Exit(USAGE)


def _report(host: Host, done: Done, name: str, *, undone: bool) -> None:
    if undone:
        if not done.changed:
            echo(f"Nothing to undo: {done.file} has no server '{name}'.")
        elif done.removed:
            echo(f"Removed {done.file}: there was nothing else in it.")
        elif done.restored:
            echo(f"{done.file} is as it was before.")
        else:
            echo(f"Took the last change of '{name}' back in {done.file}; all else stays.")
        if done.changed:
            echo(f"Next: start {host.title} again.")
        return
    if not done.changed:
        echo(f"{host.title} has this server already, as '{name}' in {done.file}. Nothing was changed.")
    else:
        echo(f"{host.title} now has the server '{name}', in {done.file}.")
        if done.kept:
            echo(f"Kept in its entry: {', '.join(done.kept)}.")
        if done.backup is not None:
            echo(f"The file as it was: {done.backup}")
        again = "" if name == SERVER else f" --name {name}"
        usual = host.file()
        at = "" if usual is not None and usual.resolve() == done.file else f" --file {shlex.quote(str(done.file))}"
        echo(f"To undo it: wan-mcp setup {host.name} --undo{at}{again}")
    echo(f"Next: {host.after or f'start {host.title} again.'}")


def _where(host: Host, place: Path | None) -> str:
    found = f" ({host.found_at})" if host.found_at else ""
    return f"{place or host.title}{found}"


def _list(name: str) -> None:
    for host in HOSTS:
        place = host.file()
        if place is None:
            state = f"add it by hand; the text: wan-mcp setup {host.name} --print"
        else:
            try:
                state = "has this server" if configured(host, place, name) else "not set up"
            except UserError as error:
                state = str(error)
        echo(f"{host.name:<12} {host.title:<15} {state}" + (f" ({place})" if place is not None else ""))
    echo("Next: wan-mcp setup NAME", err=True)
