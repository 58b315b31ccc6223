"""The command tree, with the settings, logging and error handling that all commands share.

Heavy imports happen inside the commands: `wan-mcp stdio` has to answer within a second.
"""

import logging
import os
import sys
from typing import Annotated

import typer

from wan_mcp.errors import JobFailed, UserError, WeightsUnavailable
from wan_mcp.fronts.cli import (
    clean,
    cluster,
    compile,
    doctor,
    engine,
    generate,
    jobs,
    models,
    pull,
    remix,
    setup,
    studio,
    token,
)
from wan_mcp.fronts.cli.bench.command import bench
from wan_mcp.fronts.cli.command_tree import CommandTree
from wan_mcp.fronts.cli.settings_options import variable, with_setting_flags
from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.fronts.cli.usage_errors import USAGE, UsageError, in_cli_words, show_usage_error
from wan_mcp.logs import log_to_stderr
from wan_mcp.settings import Settings, mistyped_variables, user_folder
from wan_mcp.text import one_line

__all__ = ["app", "main"]

log = logging.getLogger(__name__)

FAILED = 1
ABORTED = 1
SERVERS = ("stdio", "http", "studio", "engine", "cluster")
"""The commands whose stderr is a log."""

app = typer.Typer(
    name="wan-mcp",
    cls=CommandTree,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A local media studio for MCP clients: video, images and captions on open weights.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _remember(ctx: typer.Context, settings: Settings) -> None:
    """A local media studio for MCP clients: video, images and captions on open weights."""
    ctx.obj = settings
    if user_folder() is None:
        os.environ["HOME"] = str(settings.home)  # libraries and compilers keep their caches below it
    # A person reads sentences. The log of one command is for those who ask for it on that command's line.
    logs = ctx.invoked_subcommand in SERVERS or ctx.params.get("log_level") is not None
    log_to_stderr(settings.log_level if logs else "CRITICAL")
    _take_secrets_off_the_command_line(settings)
    for sentence in mistyped_variables():
        log.warning(sentence)


app.callback()(with_setting_flags(_remember))
app.add_typer(generate.app, name="generate")
app.command("caption")(generate.caption)
app.command("remix")(remix.remix)
app.command("again")(remix.again)
app.add_typer(jobs.app, name="jobs")
app.add_typer(models.app, name="models")
app.add_typer(engine.app, name="engine")
app.command("cluster")(cluster.cluster)
app.add_typer(token.app, name="token")
app.command("pull")(pull.pull)
app.command("compile")(compile.compile_model)
app.command("bench")(bench)
app.command("clean")(clean.clean)
app.command("doctor")(doctor.doctor)
app.command("setup")(setup.setup)
app.command("studio")(studio.studio)


@app.command()
def stdio(ctx: typer.Context) -> None:
    """Serve one MCP client on stdin and stdout. Claude Desktop starts this command."""
    from wan_mcp.fronts.mcp.stdio import run_stdio

    if sys.stdin.isatty():
        echo("This is an MCP server, which a client starts: it reads JSON-RPC messages from stdin.", err=True)
        echo(f"Claude Code adds it by: claude mcp add wan -- {sys.argv[0]} stdio", err=True)
    run_stdio(ctx.obj)


@app.command()
def http(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Any but a loopback address needs a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")] = 8000,
    no_page: Annotated[
        bool, typer.Option("--no-page", help="Serve no studio page; as WAN_MCP_HTTP_PAGE=false.")
    ] = False,
) -> None:
    """Serve MCP clients over HTTP at /mcp, and the studio page at /."""
    from wan_mcp.fronts.http.app import run_http

    run_http(ctx.obj.model_copy(update={"http_page": False}) if no_page else ctx.obj, host, port)


def _take_secrets_off_the_command_line(settings: Settings) -> None:
    """Start this process again with secrets in its environment: every user can read the command lines of all."""
    flags = {f"--{name.replace('_', '-')}": name for name in ("http_token", "on_done")}  # a URL may have one in it
    found = {flag: name for flag, name in flags.items() if any(_gives(word, flag) for word in sys.argv)}
    if not found:
        return
    for flag, name in found.items():
        log.warning("%s was on the command line, which every user can read; set %s instead", flag, variable(name))
    given = sys.orig_argv
    kept = [
        word
        for before, word in zip(["", *given], given, strict=False)
        if before not in found and not any(_gives(word, flag) for flag in found)
    ]
    os.execve(sys.executable, kept, os.environ | {variable(name): getattr(settings, name) for name in found.values()})


def _gives(word: str, flag: str) -> bool:
    return word == flag or word.startswith(f"{flag}=")


def main() -> None:
    """Run the command line. A user's error is printed as one sentence, not as a traceback."""
    try:
        code = app(prog_name="wan-mcp", standalone_mode=False)
    except UsageError as error:
        show_usage_error(error)
    except typer.Abort:
        sys.exit(ABORTED)
    except (UserError, JobFailed) as error:
        echo(one_line(in_cli_words(str(error))), fg="red", err=True)
        sys.exit(FAILED if isinstance(error, JobFailed | WeightsUnavailable) else USAGE)
    if isinstance(code, int):
        sys.exit(code)
