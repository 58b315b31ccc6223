"""The root of the command line: options wherever they stand, help with the commands first, completion, quiet."""

import json
import shlex
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from tests.conftest import ending_engines
from tests.fixtures.command_line import Wan
from wan_mcp.fronts.cli.command_tree import COMMANDS, settings_first
from wan_mcp.fronts.cli.completion import COMPLETERS
from wan_mcp.fronts.cli.main import app
from wan_mcp.settings import Settings

ROOT: Any = typer.main.get_command(app)


@pytest.mark.parametrize(
    ("written", "arranged"),
    [
        ("generate image x --home y", "--home y generate image x"),
        ("generate --device cpu image x --threads=2", "--device cpu --threads=2 generate image x"),
        ("--home a generate image x --home b", "--home a --home b generate image x"),
        ("caption x --no-compile -q", "--no-compile -q caption x"),
        ("jobs list --status failed --log-level INFO", "--log-level INFO jobs list --status failed"),
        ("http --port 1 --http-hosts x", "--http-hosts x http --port 1"),
        ("models wan-mini --home y --json", "--home y models wan-mini --json"),
        ("generate image --negative --home --seed 1", "generate image --negative --home --seed 1"),
        ("generate image x -o --quiet", "generate image x -o --quiet"),
        ("generate image -- x --home y", "generate image -- x --home y"),
        ("generate image x --version", "--version generate image x"),
        ("generate image x --help", "generate image x --help"),
        ("generate image x --nope y", "generate image x --nope y"),
        ("generate image home", "generate image home"),
        ("generate image x --home", "--home"),
        ("", ""),
    ],
)
def test_settings_may_stand_behind_the_command(written: str, arranged: str) -> None:
    assert settings_first(ROOT, shlex.split(written)) == shlex.split(arranged)


def test_every_setting_is_understood_behind_every_command() -> None:
    for name, field in Settings.model_fields.items():
        flag = f"--{name.replace('_', '-')}"
        kept = [] if field.annotation is bool else ["3"]
        for command in (["generate", "video", "x"], ["jobs", "show", "x"], ["doctor"]):
            assert settings_first(ROOT, [*command, flag, *kept]) == [flag, *kept, *command]


def test_a_setting_behind_the_command_is_followed(here: Wan, settings: Settings) -> None:
    other = settings.home.parent / "other"
    with ending_engines(other):
        run = here("generate", "image", "a star", "--steps", 1, "--home", other, "--json")
    assert json.loads(run.stdout)["artifacts"][0]["path"].startswith(str(other))
    refused = here("jobs", "--device", "gpu")
    assert refused.returncode == 2
    assert "WAN_MCP_DEVICE (--device): must be auto, cpu, cuda" in refused.stderr
    assert "requires an argument" in here("jobs", "list", "--home").stderr


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], []])
def test_help_lists_the_commands_first_and_the_settings_last(arguments: list[str]) -> None:
    said = CliRunner().invoke(app, arguments).output
    places = [said.index(f"\n  {command} ") for command in COMMANDS if f"\n  {command} " in said]
    assert len(places) == len(COMMANDS)
    assert places == sorted(places)
    assert places[-1] < said.index("--quiet") < said.index("Settings") < said.index("--home")


@pytest.mark.parametrize(
    "path", [["generate"], ["generate", "video"], ["jobs", "wait"], ["models"], ["engine", "stop"]]
)
def test_every_command_has_h(path: list[str]) -> None:
    run = CliRunner().invoke(app, [*path, "-h"])
    assert run.exit_code == 0
    assert run.output.startswith(f"Usage: wan-mcp {' '.join(path)}")


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_printed(flag: str) -> None:
    assert CliRunner().invoke(app, [flag]).output.strip().count(".") >= 2


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(["generat"], "generate"), (["jobs", "cancle"], "cancel"), (["engine", "stp"], "stop"), (["dokter"], "doctor")],
)
def test_a_mistyped_command_is_answered_with_the_one_that_was_meant(typed: list[str], meant: str) -> None:
    run = CliRunner().invoke(app, typed)
    assert run.exit_code == 2
    assert f"Did you mean '{meant}'?" in run.output


def test_quiet_prints_results_and_errors_only(here: Wan) -> None:
    for arguments in (["-q", "generate", "image", "a star"], ["generate", "image", "a star", "--quiet"]):
        run = here(*arguments)
        assert (run.returncode, run.stderr) == (0, "")
        assert run.stdout.strip().endswith(".png")
    refused = here("-q", "generate", "image", "a star", "--steps", 99)
    assert refused.returncode == 2
    assert "--steps 99" in refused.stderr


def completed(words: str, **variables: str) -> list[str]:
    """What bash would offer for the last word."""
    typed = words.split(" ")
    environment = {"_WAN_MCP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(typed) - 1)}
    return CliRunner().invoke(app, [], env=environment | variables, prog_name="wan-mcp").output.split()


def test_a_shell_completes_commands_options_models_and_jobs(here: Wan, settings: Settings) -> None:
    home = {"WAN_MCP_HOME": str(settings.home)}
    assert completed("wan-mcp gen") == ["generate"]
    assert completed("wan-mcp generate video x --neg") == ["--negative"]
    assert completed("wan-mcp generate video x --model wan-m", **home) == ["wan-mini", "wan-mini-caption"]
    assert completed("wan-mcp models show wan2.2-ti", **home) == ["wan2.2-ti2v-5b"]
    assert completed("wan-mcp generate image x --style no", **home) == ["noir"]
    assert completed("wan-mcp generate image x --preset d", **home) == ["draft"]
    assert completed("wan-mcp jobs show ", **home) == []
    job_id = here("generate", "image", "a star", "--detach").stdout.strip()
    assert completed("wan-mcp jobs show ", **home) == ["latest", job_id]
    assert completed(f"wan-mcp jobs rm {job_id[:5]}", **home) == [job_id]
    assert set(COMPLETERS) <= {"model", "style", "preset"}


def test_a_completion_that_fails_is_none() -> None:
    assert completed("wan-mcp jobs show ", WAN_MCP_HOME="/dev/null/x") == []
    assert completed("wan-mcp generate image x --model w", WAN_MCP_DEVICE="nonsense") == []


def test_a_prompt_is_read_from_stdin_or_a_file(here: Wan, settings: Settings) -> None:
    folder = settings.home.parent
    (folder / "p.txt").write_bytes("\ufeffa red star\n".encode())
    (folder / "odd.txt").write_bytes(b"\xff\xfe\x00")
    plan = json.loads(here("generate", "image", f"@{folder / 'p.txt'}", "--json").stdout)["plan"]
    assert plan["prompt_asked"] == "a red star"
    plan = json.loads(here("generate", "image", "@home, a sign", "--json").stdout)["plan"]
    assert plan["prompt_asked"] == "@home, a sign"
    odd = here("generate", "image", f"@{folder / 'odd.txt'}")
    assert (odd.returncode, "must be UTF-8" in odd.stderr) == (2, True)
    empty = here("generate", "image", "-")  # its stdin is empty
    assert (empty.returncode, "prompt is empty" in empty.stderr) == (2, True)
