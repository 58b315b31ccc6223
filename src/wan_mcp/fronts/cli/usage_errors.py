"""Errors as a command line says them: options and commands by their own names, and where an option belongs."""

import re
import sys
from collections.abc import Iterable
from typing import Any

import typer

from wan_mcp.fronts.cli.terminal import echo
from wan_mcp.schema.parameters import CliOption
from wan_mcp.schema.refusals import PHRASES
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest

__all__ = ["USAGE", "UsageError", "in_cli_words", "show_usage_error"]

USAGE = 2
"""The exit code of a request that was wrong."""
UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""The root of what the parser of options raises, which typer does not export."""
TOOLS = {
    "list_resolutions": "'wan-mcp models'",
    "list_jobs": "'wan-mcp jobs'",
    "get_job": "'wan-mcp jobs show'",
    "cancel_job": "'wan-mcp jobs cancel'",
    "keep_job with kept=false": "'wan-mcp jobs keep --off'",
    "keep_job": "'wan-mcp jobs keep'",
    "delete_job": "'wan-mcp jobs rm'",
    "seed='new'": "--seed new",
    "If the user agrees, call again with download=true": "If you agree, add --download",
    "download=true": "--download",
    "generate_video": "'wan-mcp generate video'",
    "generate_image": "'wan-mcp generate image'",
    "caption_image": "'wan-mcp caption'",
}


def _flags() -> dict[str, str]:
    """Return the options of the requests' parameters."""
    found = {}
    for request in (VideoRequest, ImageRequest, CaptionRequest):
        for name, field in request.model_fields.items():
            if name not in NO_OPTIONS:
                spelling = next((each for each in field.metadata if isinstance(each, CliOption)), CliOption())
                found[name] = spelling.flag or f"--{name.replace('_', '-')}"
    return found


NO_OPTIONS = ("kind", "prompt", "image")
"""Parameters that are arguments of a command, or none."""
FLAGS = _flags()
IDENTIFIERS = {name: flag for name, flag in FLAGS.items() if "_" in name} | TOOLS
"""Names that are no words, and stand for what they name wherever they are."""
IDENTIFIER = re.compile(rf"(?<![\w-])({'|'.join(sorted(IDENTIFIERS, key=len, reverse=True))})(?![\w-]|=|\()")
SUBJECT = re.compile(rf"(?:(?<=^)|(?<=; ))({'|'.join(sorted(FLAGS, key=len, reverse=True))})(?=: | \S+ is not allowed)")
"""A parameter that a sentence is about."""


PARSED = (
    (re.compile(r"Input should be a valid integer[^;]*"), PHRASES["int_parsing"]),
    (re.compile(r"Input should be a valid number[^;]*"), PHRASES["float_parsing"]),
    (re.compile(r"Input should be a valid boolean[^;]*"), PHRASES["bool_parsing"]),
    (re.compile(r"Input should be"), "must be"),
)
"""What the parser of options says of a value, and what refusals say everywhere else."""


def in_cli_words(sentence: str) -> str:
    """Return a sentence of a tool with the names that the command line has: `num_frames` becomes `--frames`."""
    subject = SUBJECT.sub(lambda found: FLAGS[found[0]], sentence)
    return IDENTIFIER.sub(lambda found: IDENTIFIERS[found[0]], subject)


def show_usage_error(error: Any) -> None:
    """Print an error of the parser of options and exit with its code."""
    if error.format_message() == getattr(error.ctx, "get_help", str)():  # a group without a command
        echo(error.format_message(), err=True)
        sys.exit(error.exit_code)
    if error.ctx is not None:
        echo(error.ctx.get_usage(), err=True)
        echo(f"Try '{error.ctx.command_path} --help' for help.", err=True)
    said = error.format_message()
    for pattern, words in PARSED:
        said = pattern.sub(words, said)
    echo(f"Error: {_place_of(error) or in_cli_words(said)}", err=True)
    sys.exit(error.exit_code)


def _place_of(error: Any) -> str | None:
    """Say where an option belongs that another command of the line has; None if none has it."""
    option, context = getattr(error, "option_name", None), error.ctx
    if option is None or context is None or not hasattr(error, "possibilities"):
        return None
    root = context.find_root()
    owners = [path for path, command in _commands(root.command) if option in _options_of(command)]
    if context is root and owners:
        return f"{option} belongs after the command: {root.command_path} {owners[0]} … {option} …"
    return None


def _options_of(command: Any) -> set[str]:
    return {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}


def _commands(group: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    commands = getattr(group, "commands", {})
    for name in group.list_commands(None) if commands else ():
        command = commands[name]
        whole = f"{path} {name}".strip()
        yield whole, command
        yield from _commands(command, whole)
