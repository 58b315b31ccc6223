"""--open: the system's viewer gets the result, or the command says why there is none."""

import sys
import time
from pathlib import Path

import pytest

from tests.fixtures.command_line import Wan
from tests.support.patience import PATIENCE_S
from wan_mcp.errors import BadRequest
from wan_mcp.fronts.cli.delivery import Delivery
from wan_mcp.schema.enums import Kind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the viewer is xdg-open's")


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a viewer that notes its arguments has been given."""
    programs, note = tmp_path / "bin", tmp_path / "opened"
    programs.mkdir()
    script = programs / "xdg-open"
    script.write_text(f'#!/bin/sh\necho "$TOKEN$1" > {note}.part\nmv {note}.part {note}\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("DISPLAY", ":7")
    return note


def test_the_result_is_opened_with_the_systems_viewer(
    here: Wan, opened: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", "a secret")
    run = here("generate", "image", "a star", "--steps", "2", "--open", "-o", "star.png")
    assert run.returncode == 0, run.stderr
    assert "is not opened" not in run.stderr
    end = time.monotonic() + PATIENCE_S
    while not opened.exists() and time.monotonic() < end:
        time.sleep(0.01)
    assert opened.read_text(encoding="utf-8") == f"{tmp_path / 'star.png'}\n"


@pytest.mark.parametrize(("lacking", "reason"), [("DISPLAY", "there is no display here"), ("PATH", "has no xdg-open")])
def test_without_a_viewer_the_result_is_there_all_the_same(
    here: Wan, opened: Path, monkeypatch: pytest.MonkeyPatch, lacking: str, reason: str
) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv(lacking, "")
    run = here("generate", "image", "a star", "--steps", "2", "--open")
    assert run.returncode == 0
    assert Path(run.stdout.strip()).is_file()
    assert f"is not opened: {'this system ' if lacking == 'PATH' else ''}{reason}" in run.stderr
    assert not opened.exists()


@pytest.mark.parametrize(("kind", "detach"), [(Kind.CAPTION, False), (Kind.VIDEO, True)])
def test_what_cannot_be_opened_is_refused_before_the_job(kind: Kind, detach: bool) -> None:
    with pytest.raises(BadRequest, match="--open cannot be used with"):
        Delivery(opens=True, detach=detach).check(kind, 1)
