"""A command-line flag for every setting, built from the fields of `Settings`."""

import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from wan_mcp import __version__
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.terminal import be_quiet
from wan_mcp.schema.refusals import phrase
from wan_mcp.settings import ENV_PREFIX, Settings, user_folder
from wan_mcp.text import quoted

__all__ = ["default_in_words", "variable", "with_setting_flags"]


def variable(name: str) -> str:
    """Return the environment variable of a setting."""
    return f"{ENV_PREFIX}{name.upper()}"


def default_in_words(name: str) -> str:
    """Return the default of a setting as tables show it."""
    field = Settings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    if isinstance(default, tuple):
        default = os.pathsep.join(map(str, default))
    home, text = user_folder(), "" if default is None else str(default)
    return (text.replace(str(home), "~") if home else text) or "none"


def with_setting_flags(receive: Callable[[typer.Context, Settings], None]) -> Callable[..., None]:
    """Return a root command with one flag for each setting; it passes the settings to `receive`."""

    def root(ctx: typer.Context, quiet: bool = False, **flags: Any) -> None:
        be_quiet(quiet)
        given = {name: value for name, value in flags.items() if value is not None and name in Settings.model_fields}
        try:
            settings = Settings(**given)
        except ValidationError as error:
            if {"-h", "--help"}.intersection(sys.argv):  # of a subcommand; it needs no settings
                return
            raise BadRequest("; ".join(_sentences(error))) from error
        os.environ.pop(variable("http_token"), None)  # read; no child process is given it
        receive(ctx, settings)

    root.__doc__ = receive.__doc__
    parameters = [_parameter("ctx", typer.Context), _quiet_flag(), _version_flag()]
    parameters += [_flag(name) for name in Settings.model_fields]
    root.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    root.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return root


def _flag(name: str) -> inspect.Parameter:
    field = Settings.model_fields[name]
    plain = field.annotation if field.annotation in (bool, int, float, str, Path) else str
    help_text = f"{field.description} [{variable(name)}; default: {default_in_words(name)}]"
    option = typer.Option(help=help_text, show_default=False, rich_help_panel="Settings")
    return _parameter(name, Annotated[plain | None, option], None)


def _quiet_flag() -> inspect.Parameter:
    option = typer.Option("-q", "--quiet", help="Print results and errors only.")
    return _parameter("quiet", Annotated[bool, option], False)


def _version_flag() -> inspect.Parameter:
    def tell(wanted: bool) -> None:
        if wanted:
            typer.echo(__version__)
            raise typer.Exit

    option = typer.Option("-V", "--version", callback=tell, is_eager=True, help="Print the version.")
    return _parameter("version", Annotated[bool, option], False)


def _parameter(name: str, annotation: Any, *default: Any) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY if default else inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Parameter(
        name, kind, default=default[0] if default else inspect.Parameter.empty, annotation=annotation
    )


def _sentences(error: ValidationError) -> list[str]:
    sentences = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else "settings"
        given = quoted(problem["input"], 200)
        sentences.append(f"{variable(name)} (--{name.replace('_', '-')}): {phrase(dict(problem))}, not {given}")
    return sentences
