"""The programs in docs/clients.md run as they stand there."""

import re
import shlex
import subprocess
from pathlib import Path

from tests.clients.conftest import SCRIPT_S
from tests.clients.environments import python_environment
from tests.clients.installation import COMMAND, Installation, Json, client_environment

PAGE = (Path(__file__).parents[2] / "docs" / "clients.md").read_text(encoding="utf-8")
PROGRAM = re.compile(r"```python\n(# (?P<name>\w+)\.py .*?)```", re.DOTALL)


def program(name: str, folder: Path) -> Path:
    """A program of the page, as a file."""
    [text] = [found[1] for found in PROGRAM.finditer(PAGE) if found["name"] == name]
    file = folder / f"{name}.py"
    file.write_text(text, encoding="utf-8")
    return file


def run(client: str, file: Path, argument: str) -> list[str]:
    """What a program of the page prints in a client's environment."""
    ran = subprocess.run(
        [python_environment(client), file, argument],
        env=client_environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SCRIPT_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.splitlines()


def test_the_program_for_langchain_ends_with_the_path_of_a_video(installation: Installation, tmp_path: Path) -> None:
    # The adapters give a server the environment that its connection names and no other, so the command brings it.
    settings = [f"{name}={value}" for name, value in installation.settings.items()]
    command = tmp_path / "wan-mcp"
    command.write_text(f'#!/bin/sh\nexec {shlex.join(["env", *settings, *COMMAND])} "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    shown = run("langchain", program("langchain_client", tmp_path), str(command))
    assert Path(shown[-1]).suffix == ".mp4"
    assert Path(shown[-1]).is_file()


def test_the_program_for_http_shows_progress_and_the_path_of_a_video(http_server: Json, tmp_path: Path) -> None:
    *progress, path = run("mcp2", program("http_client", tmp_path), http_server["url"])
    assert progress
    assert all(re.match(r"\d+% \w", line) for line in progress)
    assert Path(path).is_file()
