"""Ctrl-C: once to stop the job, twice to leave it to itself; and what a terminal shows meanwhile."""

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fixtures.command_line import COMMAND, Wan, environment
from tests.support.patience import PATIENCE_S
from wan_mcp.settings import Settings


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, settings: Settings, *arguments: str) -> None:
        self._screen, inside = pty.openpty()
        self._process = subprocess.Popen(
            [*COMMAND, *arguments],
            env=environment(settings) | {"TERM": "xterm"},
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
        )
        os.close(inside)
        self.shown = ""

    def until(self, words: str) -> None:
        """Read the screen until it shows `words`."""
        while words not in self.shown:
            try:
                piece = os.read(self._screen, 10_000)
            except OSError:  # the terminal is closed
                piece = b""
            assert piece, f"the screen never showed {words!r}: {self.shown}"
            self.shown += piece.decode(errors="replace")

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self._process.pid, signal.SIGINT)

    def end(self) -> int:
        """The exit code."""
        try:
            while os.read(self._screen, 10_000):
                pass
        except OSError:
            pass
        return self._process.wait(PATIENCE_S)

    def close(self) -> None:
        """End it, whatever it does."""
        self._process.kill()
        self._process.wait(PATIENCE_S)
        os.close(self._screen)


@contextmanager
def in_terminal(settings: Settings, *arguments: str) -> Iterator[Terminal]:
    terminal = Terminal(settings, *arguments)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def paced(settings: Settings) -> Path:
    """How many steps the engine may do; three at first."""
    settings.home.mkdir(parents=True)
    pace = settings.home / "pace"
    pace.write_text("3")
    return pace


def only_job(wan: Wan) -> dict[str, object]:
    [job] = json.loads(wan("jobs", "list", "--json").stdout)
    assert isinstance(job, dict)
    return job


@pytest.mark.usefixtures("paced")
def test_the_first_ctrl_c_stops_the_job(wan: Wan, settings: Settings) -> None:
    with in_terminal(settings, "generate", "video", "a red star") as terminal:
        terminal.until("step 3/12")
        terminal.interrupt()
        terminal.until("Ctrl-C again")
        assert terminal.end() == 130
    assert only_job(wan)["state"] == "cancelled"


def test_the_second_ctrl_c_leaves_a_job_that_does_not_stop(wan: Wan, engine: Callable[..., Settings]) -> None:
    with in_terminal(engine("hangs_once"), "generate", "video", "a red star") as terminal:
        terminal.until("step 1/12")
        terminal.interrupt()
        terminal.until("Ctrl-C again")
        terminal.interrupt()
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown
    assert only_job(wan)["state"] == "running"  # it was not waited for


def test_a_terminal_shows_the_stage_the_step_and_the_share_that_is_done(settings: Settings, paced: Path) -> None:
    with in_terminal(settings, "generate", "video", "a red star") as terminal:
        terminal.until("step 3/12")
        assert "%" in terminal.shown
        paced.unlink()
        terminal.until("seed")
        assert terminal.end() == 0
