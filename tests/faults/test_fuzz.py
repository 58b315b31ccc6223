"""Odd images, calls, lines and rows by the hundred: each is answered in words, and costs nobody else.

FUZZ_TIMES=6 in the environment takes six times as many, about a minute of each, as CI does.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from devkit.fuzz import fuzz_calls, fuzz_lines
from devkit.fuzz_rows import fuzz_rows
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

TIMES = int(os.environ.get("FUZZ_TIMES", "1"))
pytestmark = pytest.mark.timeout(max(300, 120 * TIMES))
FRESH_PROCESS = f"from devkit.fuzz import fuzz_images; print(*fuzz_images({1000 * TIMES}, seed=1), sep='\\n', end='')"


def test_odd_images_are_refused_with_a_reason_or_taken_within_the_memory() -> None:
    command = [sys.executable, "-c", FRESH_PROCESS]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S * TIMES, check=False)
    assert (run.stdout, run.returncode) == ("", 0), run.stderr


@pytest.mark.anyio
async def test_odd_calls_are_answered_in_words(shared_settings: Settings) -> None:
    assert await fuzz_calls(shared_settings, 200 * TIMES, 1) == []


def test_odd_lines_are_answered_and_cost_no_other_line(tmp_path: Path) -> None:
    assert fuzz_lines(Settings(home=tmp_path / "home", image_dirs=()), 1000 * TIMES, 1) == []


@pytest.mark.anyio
async def test_odd_values_in_the_tables_cost_nothing_but_their_rows(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "home", device="cpu", image_dirs=())
    assert await fuzz_rows(settings, 60 * TIMES, 1) == []
