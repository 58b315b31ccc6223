"""The programs in examples/ run as a user runs them, each in the environment that it needs."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.clients.conftest import SCRIPT_S
from tests.clients.environments import python_environment
from tests.clients.installation import COMMAND, Installation, Json, client_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
MAX_LINES = 45
PROMPT = "a large orange triangle moves down over a white background"
PROGRESS = re.compile(r" *\d+ % \w")


@pytest.fixture
def command(tmp_path: Path) -> str:
    """The path of `wan-mcp`, wherever this Python is."""
    file = tmp_path / "wan-mcp"
    file.write_text(f'#!/bin/sh\nexec {shlex.join(COMMAND)} "$@"\n', encoding="utf-8")
    file.chmod(0o755)
    return str(file)


def run(client: str, example: str, argument: str, installation: Installation, folder: Path) -> list[str]:
    """Run an example in a client's environment and in a folder; return the lines that it prints."""
    ran = subprocess.run(
        [python_environment(client), EXAMPLES / example, PROMPT, argument],
        env=client_environment() | installation.settings,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_example_for_stdio_shows_progress_and_the_path_of_a_video(
    installation: Installation, command: str, tmp_path: Path
) -> None:
    *progress, path = run("mcp2", "video_over_stdio.py", command, installation, tmp_path)
    assert progress
    assert all(PROGRESS.match(line) for line in progress)
    assert Path(path).suffix == ".mp4"
    assert Path(path).is_relative_to(installation.home)
    assert Path(path).is_file()


def test_the_example_for_http_shows_progress_and_downloads_the_video(
    installation: Installation, http_server: Json, tmp_path: Path
) -> None:
    *progress, last = run("mcp2", "video_over_http.py", http_server["url"], installation, tmp_path)
    assert all(PROGRESS.match(line) for line in progress)
    [video] = tmp_path.glob("*.mp4")
    assert last.startswith(f"{video.name}: 17 frames, seed 7")
    assert video.read_bytes() == (installation.home / "media" / "videos" / video.name).read_bytes()


def test_the_example_for_langchain_ends_with_the_path_of_a_video(
    installation: Installation, command: str, tmp_path: Path
) -> None:
    shown = run("langchain", "video_with_langchain.py", command, installation, tmp_path)
    assert Path(shown[-1]).suffix == ".mp4"
    assert Path(shown[-1]).is_file()


def test_every_example_is_short_and_on_the_page_of_clients_and_run_here() -> None:
    examples = sorted(EXAMPLES.glob("*.py"))
    assert len(examples) == 3
    page = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
    for example in examples:
        assert len(example.read_text(encoding="utf-8").splitlines()) <= MAX_LINES
        assert f"](../examples/{example.name})" in page
        assert f'"{example.name}"' in Path(__file__).read_text(encoding="utf-8")
