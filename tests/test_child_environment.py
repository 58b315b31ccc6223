"""What child processes are given: no secrets, no code from the current folder, no predictable temporary folders."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wan_mcp.child_environment import child_environment, drop_secrets, temporary_in

MODULES = ("json", "platform", "sitecustomize", "usercustomize", "torch")


def plant(folder: Path) -> Path:
    """Put modules into a folder that leave a mark if they are imported; return where."""
    mark = folder / "imported"
    for name in MODULES:
        (folder / f"{name}.py").write_text(f"open({str(mark)!r}, 'a').write('{name} ')", encoding="utf-8")
    return mark


@pytest.mark.parametrize("path", [None, "", ":", "/nowhere:", ":/nowhere", "/nowhere::/elsewhere"])
def test_a_child_imports_nothing_from_its_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str | None
) -> None:
    mark = plant(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    code = "import json, platform; print(json.__file__)"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=child_environment(), check=True)
    assert not mark.exists()


def test_a_folder_that_the_user_put_on_pythonpath_is_used_wherever_the_child_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_mine.py").write_text("found = True", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "mine")
    subprocess.run([sys.executable, "-c", "import of_mine"], cwd="/", env=child_environment(), check=True)


@pytest.mark.parametrize(
    "name",
    [
        "WAN_MCP_HTTP_TOKEN",
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "GITHUB_TOKEN",
        "OPENAI_API_KEY",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "SMTP_PASSWD",
        "SSH_PRIVATE_KEY",
        "GOOGLE_APPLICATION_CREDENTIALS",
    ],
)
def test_secrets_stay_here(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "secret")
    assert name not in child_environment()
    assert (name in child_environment(downloads=True)) == name.startswith(("HF_", "HUGGING_FACE_"))


def test_an_engine_that_another_program_started_drops_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    gone = {"WAN_MCP_HTTP_TOKEN", "WAN_MCP_ON_DONE", "WAN_MCP_C2PA_KEY", "OPENAI_API_KEY"}
    stay = {"HF_TOKEN", "RAY_AUTH_TOKEN", "WAN_MCP_HOME"}
    os.environ.update(dict.fromkeys(gone | stay, "value"))
    drop_secrets()
    assert not gone & os.environ.keys()
    assert stay <= os.environ.keys()


@pytest.mark.parametrize("name", ["PATH", "TOKENIZERS_PARALLELISM", "CXX", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES"])
def test_everything_else_goes_along(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "value")
    assert child_environment()[name] == "value"


def test_temporary_files_and_caches_are_in_the_home_where_nobody_else_can_make_them(tmp_path: Path) -> None:
    home = tmp_path / "home"
    variables = temporary_in(home)
    assert {"TMPDIR", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"} <= variables.keys()
    assert all(Path(folder).is_relative_to(home) for folder in variables.values())
    code = "import tempfile; print(tempfile.gettempdir())"
    run = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == str(home / "tmp")
    assert (home / "tmp").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["WAN_MCP_ON_DONE", "WAN_MCP_C2PA_KEY"])
def test_children_are_not_told_who_hears_of_finished_jobs_or_where_a_key_is(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "https://receiver.example/?key=secret")
    assert name not in child_environment(downloads=True)
