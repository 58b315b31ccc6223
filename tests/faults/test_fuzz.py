"""Odd images and odd calls by the hundred: each is answered in words, and none is a defect or takes much memory."""

import subprocess
import sys

import pytest

from devkit.fuzz import fuzz_calls
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings

FRESH_PROCESS = "from devkit.fuzz import fuzz_images; print(*fuzz_images(1000, seed=1), sep='\\n', end='')"


def test_odd_images_are_refused_with_a_reason_or_taken_within_the_memory() -> None:
    command = [sys.executable, "-c", FRESH_PROCESS]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert (run.stdout, run.returncode) == ("", 0), run.stderr


@pytest.mark.anyio
async def test_odd_calls_are_answered_in_words(shared_settings: Settings) -> None:
    assert await fuzz_calls(shared_settings, 200, 1) == []
