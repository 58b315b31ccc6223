"""`--option ''` means that the option was not given, whichever option it is."""

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner

from wan_mcp.fronts.cli.blank_options import without_blank_options
from wan_mcp.fronts.cli.command_tree import CommandTree
from wan_mcp.fronts.cli.main import app
from wan_mcp.fronts.cli.request_options import with_request_options
from wan_mcp.schema.requests import CaptionRequest, VideoRequest
from wan_mcp.settings import KEPT_BLANKS

ROOT: Any = typer.main.get_command(app)


def options(command: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Every option that takes a value, with the words that lead to its command and its name."""
    for parameter in command.params:
        if parameter.param_type_name == "option" and not parameter.is_flag:
            for flag in parameter.opts:
                yield path, flag, parameter.name
    for name, each in getattr(command, "commands", {}).items():
        yield from options(each, *path, name)


ALL = list(options(ROOT))


@pytest.mark.parametrize(("path", "flag", "name"), ALL, ids=[" ".join((*path, flag)) for path, flag, _ in ALL])
def test_a_blank_option_is_left_out(path: tuple[str, ...], flag: str, name: str) -> None:
    kept = [flag, ""] if name in KEPT_BLANKS else []
    assert list(without_blank_options(ROOT, [*path, flag, "", "x"])) == [*path, *kept, "x"]
    assert list(without_blank_options(ROOT, [*path, flag, "y", "x"])) == [*path, flag, "y", "x"]
    if flag.startswith("--"):
        joined = [f"{flag}="] if name in KEPT_BLANKS else []
        assert list(without_blank_options(ROOT, [*path, f"{flag}=", "x"])) == [*path, *joined, "x"]


def test_arguments_flags_and_what_follows_two_dashes_stay() -> None:
    words = ["generate", "image", "", "--json", "--force", "--", "--steps", ""]
    assert list(without_blank_options(ROOT, words)) == words


def test_a_value_that_looks_like_a_command_or_an_option_is_a_value() -> None:
    words = ["--home", "generate", "generate", "image", "--negative", "--steps", "--model", "", "a star"]
    assert list(without_blank_options(ROOT, words)) == [*words[:6], "a star"]


def test_a_command_hears_no_blanks() -> None:
    command = typer.Typer(cls=CommandTree)
    heard: list[VideoRequest | CaptionRequest] = []

    @command.command()
    @with_request_options
    def video(ctx: typer.Context, request: VideoRequest, output: Annotated[str, typer.Option("-o")] = "none") -> None:
        heard.append(request)
        typer.echo(output)

    @command.command()
    @with_request_options
    def caption(ctx: typer.Context, request: CaptionRequest) -> None:
        heard.append(request)

    sent = ["rain", "--steps=", "--image=", "--duration=", "--turbo", "--lora=", "--count=", "-o"]
    run = CliRunner().invoke(command, ["video", *sent, "", "--seed", "", "--lora", "style"])
    assert (run.exit_code, run.stdout) == (0, "none\n")
    assert CliRunner().invoke(command, ["caption", "x.png", "--option", "", "--seed", ""]).exit_code == 0
    assert heard == [
        VideoRequest.of({"prompt": "rain", "turbo": True, "lora": [{"name": "style"}]}),
        CaptionRequest(image="x.png"),
    ]
