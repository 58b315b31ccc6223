"""Modules that others put into the current folder or the home are imported by no process of wan-mcp."""

import json
import subprocess
from pathlib import Path

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


def test_neither_the_engine_nor_doctor_imports_what_lies_about(wan: Wan, settings: Settings, marks: Path) -> None:
    real = settings.model_copy(update={"engine_command": "", "compile": False})
    made = wan("generate", "image", "a red star", "--steps", "1", settings=real)
    assert made.returncode == 0, made.stderr
    checked = wan("doctor", settings=real)
    assert "BAD" not in checked.stdout
    assert imported(marks) == ""


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
