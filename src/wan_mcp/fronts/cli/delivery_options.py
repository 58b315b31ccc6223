"""The options of every command that makes something: where the result goes, and on which terms it is made."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from wan_mcp.service.terms import Terms

__all__ = ["output_option", "with_delivery"]

DEFAULT_PLACE = "By default the result stays in the home folder and its path is printed."
FLAGS = {
    "force": ("--force", "Overwrite the output file."),
    "as_json": ("--json", "Print the whole job as JSON."),
    "detach": ("--detach", "Print the job's id and exit; the job continues."),
    "opens": ("--open", "Open the result with the system's viewer."),
    "download": ("--download", "Download the model if it is missing, however large it is."),
    "dry_run": ("--dry-run", "Print what it would do, its time, memory and download; make nothing."),
}
TERMS = ("download", "dry_run")


def output_option(what: str, otherwise: str = DEFAULT_PLACE) -> Any:
    """Return the annotation of `--output`; `what` names the file, and `otherwise` says what happens without it."""
    return Annotated[Path | None, typer.Option("-o", "--output", help=f"{what}. {otherwise}")]


def with_delivery(output: Any, *, opens: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options in place of its parameters `delivery` and `terms`; without `opens`, no `--open`."""
    flags = {name: flag for name, flag in FLAGS.items() if opens or name != "opens"}
    options = [_keyword("output", output, None)]
    options += [
        _keyword(name, Annotated[bool, typer.Option(flag, help=text)], False) for name, (flag, text) in flags.items()
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command)
        own = [each for each in signature.parameters.values() if each.name not in ("delivery", "terms")]

        @functools.wraps(command)
        def call(*args: Any, output: Path | None = None, **given: Any) -> None:
            from wan_mcp.fronts.cli.delivery import Delivery

            chosen = {name: given.pop(name, False) for name in FLAGS}
            terms = Terms(**{name: chosen.pop(name) for name in TERMS})
            command(*args, delivery=Delivery(output, **chosen), terms=terms, **given)

        call.__signature__ = signature.replace(parameters=[*own, *options])  # type: ignore[attr-defined]
        call.__annotations__ = {each.name: each.annotation for each in [*own, *options]} | {"return": None}
        return call

    return decorate


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
