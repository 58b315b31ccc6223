"""A user id without a name and without a home directory, as containers have them."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ending_engines, settings_for
from tests.fixtures.command_line import environment
from tests.support.patience import PATIENCE_S

NUMBER = 12345
Run = subprocess.CompletedProcess[str]
Nameless = Callable[..., Run]


@pytest.fixture
def nameless() -> Iterator[Nameless]:
    """`nameless(*arguments, home=…, **variables)`: run the command as a user id that has no name."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can be another user")
    # It may read everything, so that it can start this Python, and write nothing that is not its own.
    become = [
        *("setpriv", f"--reuid={NUMBER}", f"--regid={NUMBER}", "--clear-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
    ]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        os.chown(place, NUMBER, NUMBER)
        home = place / "home"

        def run(*arguments: str, with_home: bool = True, **variables: str) -> Run:
            own = environment(settings_for(home)) | variables
            for name in ("HOME", "USER", "LOGNAME", "XDG_DATA_HOME", *(() if with_home else ("WAN_MCP_HOME",))):
                own.pop(name, None)
            own.pop("COVERAGE_PROCESS_CONFIG", None)  # this user may not write where coverage is measured
            return subprocess.run(
                [*become, sys.executable, "-m", "wan_mcp", *arguments],
                env=own | {"PYTHONDONTWRITEBYTECODE": "1"},
                cwd=place,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )

        with ending_engines(home):
            yield run


@pytest.mark.parametrize(
    "arguments",
    [("--version",), ("--help",), ("jobs", "--help"), ("models",), ("stdio",), ("generate", "image", "a red star")],
)
def test_with_a_home_of_its_own_every_command_works(nameless: Nameless, arguments: tuple[str, ...]) -> None:
    run = nameless(*arguments)
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("jobs", "--help")])
def test_without_one_help_and_version_are_shown(nameless: Nameless, arguments: tuple[str, ...]) -> None:
    assert nameless(*arguments, with_home=False).returncode == 0


@pytest.mark.parametrize("arguments", [("models",), ("stdio",), ("doctor",)])
def test_without_one_other_commands_ask_for_it_in_words(nameless: Nameless, arguments: tuple[str, ...]) -> None:
    run = nameless(*arguments, with_home=False)
    assert run.returncode == 2
    assert "WAN_MCP_HOME" in run.stderr
    assert "write an absolute path" in run.stderr
    assert "Traceback" not in run.stderr
