"""Modules that others put into the current folder or the home are imported by no process of wan-mcp."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.command_line import Wan
from wan_mcp.engine.aot import child_process
from wan_mcp.engine.aot.builder import environment
from wan_mcp.engine.aot.compiler_check import compiler_fingerprint, default_compiler
from wan_mcp.settings import Settings

MODULES = ("json", "platform", "logging", "sitecustomize", "torch", "diffusers", "mcp")


def plant(folder: Path, marks: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in MODULES:
        code = f"open({str(marks)!r}, 'a').write('{folder.name}/{name} ')"
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    if folder != marks.parent:  # there `python -m wan_mcp`, by which tests run the command, is its caller's choice
        (folder / "wan_mcp.py").write_text("raise SystemExit('the wrong one')", encoding="utf-8")


@pytest.fixture
def marks(settings: Settings, tmp_path: Path) -> Path:
    """The file in which planted modules say that they were imported; commands run in `tmp_path`."""
    marks = tmp_path / "marks"
    for folder in (tmp_path, settings.home):
        plant(folder, marks)
    known = settings.home / "packages" / "compiler.json"  # no check of the compiler, which takes long
    known.parent.mkdir(parents=True)
    known.write_text(json.dumps(compiler_fingerprint(default_compiler())))
    return marks


def imported(marks: Path) -> str:
    return marks.read_text(encoding="utf-8") if marks.exists() else ""


def test_neither_the_engine_nor_plain_diffusers_nor_doctor_imports_what_lies_about(
    wan: Wan, settings: Settings, marks: Path
) -> None:
    real = settings.model_copy(update={"engine_command": "", "compile": False})
    small = ("--runs", "2", "--frames", "5", "--steps", "2")
    measured = wan("bench", *small, "--quality", "--json", settings=real)
    assert measured.returncode == 0, measured.stderr
    require_both_sides(json.loads(measured.stdout))
    checked = wan("doctor", settings=real)
    assert "BAD" not in checked.stdout
    assert imported(marks) == ""


def require_both_sides(report: dict[str, Any]) -> None:
    """A benchmark of the real engine and of real diffusers: they make nearly the same, as files."""
    for side in ("ours", "diffusers"):
        assert len(report[side]["seconds"]) == 2
        assert report[side]["first_s"] > report[side]["warm_s"]
        assert report[side]["process_bytes"] > 100_000_000
        assert (report[side]["precision"], report[side]["ended"]) == ("fp32", None)
    assert report["ours"]["quality"] == "exact"
    assert report["hardware"]["device"].startswith("cpu ")
    assert report["quality"]["results"] == 2
    assert report["quality"]["psnr_db"]["mean"] > 40
    assert report["quality"]["ssim"]["mean"] > 0.99


def test_builders_import_nothing_that_lies_about(
    settings: Settings, marks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(settings.home)
    code = "import json, platform, logging"
    process = child_process.start(["-c", code], environment(settings.home), output=subprocess.DEVNULL, errors=None)
    try:
        assert process.wait() == 0
    finally:
        child_process.end(process)
    assert imported(marks) == ""
