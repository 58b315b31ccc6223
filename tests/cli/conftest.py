"""What the tests of the command line share: `wan-mcp` as people run it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_S
from wan_mcp.settings import ENV_PREFIX, Settings

# Warnings are errors, but that an engine outlives whoever has started it: see tests/conftest.py.
COMMAND = (sys.executable, "-W", "error", "-W", "ignore:subprocess:ResourceWarning", "-m", "wan_mcp")

Run = subprocess.CompletedProcess[str]
Wan = Callable[..., Run]


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a command line with these settings and nothing else of ours."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    return {**inherited, **settings.environment(), "COLUMNS": "120", "NO_COLOR": "1"}


@pytest.fixture
def wan(settings: Settings, tmp_path: Path) -> Wan:
    """`wan(*arguments, settings=…, **variables)`: run the command in a folder of its own."""
    usual = settings

    def run(*arguments: object, settings: Settings = usual, **variables: str) -> Run:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            env=environment(settings) | variables,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    return run
