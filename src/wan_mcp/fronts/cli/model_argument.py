"""The argument of commands that work on one model, by default the video model."""

from typing import Annotated

import typer

from wan_mcp.fronts.cli.completion import complete_models

__all__ = ["ModelArgument"]

ModelArgument = Annotated[
    str | None,
    typer.Argument(help="Model name; see 'wan-mcp models'. Default: the video model.", autocompletion=complete_models),
]
