"""Command-line options made from the fields of a request."""

from collections.abc import Callable
from typing import Annotated, Any, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from wan_mcp.fronts.cli.completion import COMPLETERS
from wan_mcp.fronts.cli.lora_option import LORA_OPTION
from wan_mcp.fronts.cli.shot_option import SHOT_OPTION
from wan_mcp.schema.parameters import CliOption, default_of, unfold
from wan_mcp.schema.requests import LoraRequest, ShotRequest

__all__ = ["with_request_options"]

AS_ONE_WORD: dict[Any, dict[str, Any]] = {LoraRequest: LORA_OPTION, ShotRequest: SHOT_OPTION}
"""Options for values of several parts that are written as one word."""


def with_request_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an argument or option for each parameter of its `request`.

    Required parameters become arguments, others options. An option for several values may be repeated.
    """
    return unfold(command, _written)


def _written(name: str, field: FieldInfo) -> tuple[Any, Any]:
    spelling = next((each for each in field.metadata if isinstance(each, CliOption)), CliOption())
    help_text = spelling.help or field.description
    if field.is_required():
        return Annotated[field.annotation, typer.Argument(help=help_text)], default_of(field)
    flags = [spelling.flag] if spelling.flag else []
    completer = COMPLETERS.get(name)
    if get_origin(field.annotation) is not tuple:
        return Annotated[field.annotation, typer.Option(*flags, help=help_text, autocompletion=completer)], default_of(
            field
        )
    [item, _] = get_args(field.annotation)  # a tuple of any length
    several = list[item]  # type: ignore[valid-type]
    option = typer.Option(*flags, help=f"{help_text} Repeat the option for more.", **AS_ONE_WORD.get(item, {}))
    return Annotated[several | None, option], None
