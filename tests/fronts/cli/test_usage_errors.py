"""Errors of the command line: in the names that it has, with the place of a misplaced option."""

import sys

import pytest

from wan_mcp.fronts.cli.main import main
from wan_mcp.fronts.cli.usage_errors import in_cli_words


def stderr_of(*arguments: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Run a command that is refused in this process."""
    monkeypatch.setattr(sys, "argv", ["wan-mcp", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--frames", "5", "generate", "video", "x"), "--frames belongs after the command: wan-mcp generate video"),
        (("--status", "failed", "jobs"), "--status belongs after the command: wan-mcp jobs list"),
        (("generate", "video", "x", "--nope"), "No such option: --nope"),
        (("generate", "video", "x", "--frames", "many"), "Invalid value for '--frames': must be a whole number"),
        (("generate", "video", "x", "--seed", "1e20"), "Invalid value for '--seed': must be a whole number"),
        (("generate", "video", "x", "--steps", "true"), "Invalid value for '--steps': must be a whole number"),
        (("generate", "image", "x", "--strength", "much"), "Invalid value for '--strength': must be a number"),
        (("jobs", "list", "--limit", "0"), "'--limit': must be greater than or equal to 1"),
        (("jobs", "--x\x1b]0;title\x07"), r"No such option: --x\x1b]0;title\x07"),
        (("jobs", "list", "--status", "a\x9bb"), r"a\x9bb"),
    ],
)
def test_a_misused_option_is_named_with_its_place(
    arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stderr_of(*arguments, capsys=capsys, monkeypatch=monkeypatch)
    assert words in said
    assert not set(said) & {"\x1b", "\x07", "\x9b"}


def test_a_group_without_a_command_shows_its_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said = stderr_of("generate", capsys=capsys, monkeypatch=monkeypatch)
    assert said.startswith("Usage: wan-mcp generate")
    assert "Error" not in said


@pytest.mark.parametrize(
    ("api", "cli"),
    [
        ("num_frames 4 is not allowed; use duration_s", "--frames 4 is not allowed; use --duration"),
        ("guidance_scale_2 applies to two experts", "--guidance-2 applies to two experts"),
        ("seed 1e20 is not allowed; it must be 0 to 5", "--seed 1e20 is not allowed; it must be 0 to 5"),
        ("steps: must be 1; count: must be 2", "--steps: must be 1; --count: must be 2"),
        ("list_resolutions names them", "'wan-mcp models' names them"),
        ("the model has 4 steps", "the model has 4 steps"),
        ("get_job(job_id='x')", "get_job(job_id='x')"),
    ],
)
def test_parameters_and_tools_have_the_names_of_options_and_commands(api: str, cli: str) -> None:
    assert in_cli_words(api) == cli
