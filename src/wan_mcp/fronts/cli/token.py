"""`wan-mcp token`: the tokens by which people and programs elsewhere use the HTTP server, each in a name of theirs."""

import json
from typing import Annotated

import typer

from wan_mcp.fronts.cli.command_tree import ListByDefault
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.service.tokens import Tokens
from wan_mcp.text import instant

__all__ = ["app"]

app = typer.Typer(cls=ListByDefault, no_args_is_help=True, help="Tokens of the HTTP server, each of one owner.")

Name = Annotated[str, typer.Argument(help="The owner: small letters, digits and . _ - (40 at most).")]


@app.command()
def add(ctx: typer.Context, name: Name) -> None:
    """Make a token and print it, once: only its hash is kept.

    It opens the jobs and results of that name only. A running server accepts it at once.
    """
    token = Tokens(ctx.obj.home).add(name)
    echo(f"The token of {name}, which is shown only now. Clients send it as 'Authorization: Bearer …'.", err=True)
    echo(token)


@app.command("list")
def list_(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the names that have a token."""
    tokens = Tokens(ctx.obj.home).all()
    if as_json:
        echo(json.dumps([{"name": each.name, "created_at": instant(each.created_at)} for each in tokens], indent=1))
        return
    for each in tokens:
        echo(f"{each.name}, since {instant(each.created_at)}")
    if not tokens:
        echo("No tokens. 'wan-mcp token add NAME' makes one.", err=True)


@app.command()
def revoke(ctx: typer.Context, name: Name) -> None:
    """Make a token useless, at once. Its links and sign-ins end with it; the jobs stay."""
    Tokens(ctx.obj.home).revoke(name)
    echo(f"The token of {name} is revoked.", err=True)
