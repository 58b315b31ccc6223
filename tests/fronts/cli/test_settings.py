"""Every setting is a flag and an environment variable, made from the settings themselves."""

import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError

import wan_mcp
from tests.conftest import ending_engines
from tests.fixtures.command_line import Wan
from wan_mcp.fronts.cli.settings_options import default_in_words, variable
from wan_mcp.settings import Settings

PAGE = (Path(__file__).parents[3] / "docs" / "settings.md").read_text(encoding="utf-8")


def test_help_names_the_flag_variable_and_default_of_every_setting(wan: Wan) -> None:
    shown = " ".join(re.sub(r"-\n\s+", "-", wan("--help").stdout).split())
    for name in Settings.model_fields:
        assert f"--{name.replace('_', '-')}" in shown
        assert variable(name) in shown
        assert default_in_words(name) in shown or "/" in default_in_words(name), name


@pytest.mark.parametrize("name", Settings.model_fields)
def test_the_page_of_settings_lists_every_setting(name: str) -> None:
    assert f"`{variable(name)}`" in PAGE


def test_a_flag_is_stronger_than_a_variable_and_reaches_the_engine(wan: Wan, tmp_path: Path) -> None:
    home = tmp_path / "elsewhere"
    with ending_engines(home):
        run = wan("--home", home, "generate", "image", "a red star")
    assert run.returncode == 0
    assert Path(run.stdout.strip()).is_relative_to(home)


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (("--wait-s", "-1"), "WAN_MCP_WAIT_S (--wait-s)"),
        (("--device", "gpu"), "WAN_MCP_DEVICE (--device)"),
        (("--threads", "many"), "--threads"),
        (("--no-such-setting", "1"), "--no-such-setting"),
    ],
)
def test_a_value_that_is_not_allowed_is_one_sentence_and_exit_code_2(
    wan: Wan, flags: tuple[str, ...], named: str
) -> None:
    run = wan(*flags, "jobs")
    assert run.returncode == 2
    assert named in run.stderr
    assert "Traceback" not in run.stderr


def test_a_wrong_variable_is_told_like_a_wrong_flag(wan: Wan) -> None:
    run = wan("jobs", WAN_MCP_QUEUE_LIMIT="0")
    assert run.returncode == 2
    assert "WAN_MCP_QUEUE_LIMIT" in run.stderr


def test_the_version_is_told(wan: Wan) -> None:
    assert wan("--version").stdout.strip() == wan_mcp.__version__


def test_no_command_but_the_engine_imports_torch(wan: Wan, tmp_path: Path) -> None:
    heavy = tmp_path / "heavy"
    for name in ("torch", "diffusers", "transformers", "accelerate", "safetensors"):
        (heavy / name).mkdir(parents=True)
        (heavy / name / "__init__.py").write_text(f"raise SystemExit('imported {name}')")
    found = {"PYTHONPATH": str(heavy)}
    assert wan("generate", "image", "a red star", "--detach", **found).returncode == 0
    assert json.loads(wan("jobs", "list", "--json", **found).stdout)
    for arguments in (("models",), ("--help",), ("stdio",)):
        run = wan(*arguments, **found)
        assert run.returncode == 0, run.stderr
        assert "imported" not in run.stderr


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("WAN_MCP_HOME", "~nobody-here/x"),
        ("WAN_MCP_IMAGE_DIRS", "/pictures:~nobody-here"),
        ("WAN_MCP_LORA_DIRS", "~nobody-here/loras"),
    ],
)
def test_the_home_of_a_user_who_does_not_exist_is_refused_in_words(wan: Wan, variable: str, value: str) -> None:
    run = wan("jobs", **{variable: value})
    assert run.returncode == 2
    assert variable in run.stderr
    assert "there is no home directory for '~nobody-here'" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("device", ["mps", "mps:0", "cuda:", "cuda:-1", "cuda:x", "gpu", "cuda:\u0661"])
def test_a_device_that_does_not_exist_is_refused_with_those_that_do(device: str) -> None:
    with pytest.raises(ValidationError, match="must be auto, cpu, cuda, or cuda: with") as refused:
        Settings(device=device)
    assert ("Apple" in str(refused.value)) == device.startswith("mps")
