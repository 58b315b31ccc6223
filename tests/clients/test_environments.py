"""Environments are built once, and again when they are half built or made of something else."""

from pathlib import Path

import pytest

from tests.clients.environments import REQUIREMENTS, EnvironmentBroken, built


def test_an_environment_is_built_once(tmp_path: Path) -> None:
    builds: list[Path] = []

    def build(folder: Path) -> None:
        builds.append(folder)
        folder.mkdir()

    first = built(tmp_path, "client", "one==1", build)
    assert built(tmp_path, "client", "one==1", build) == first
    assert built(tmp_path, "client", "one==2", build) != first
    assert len(builds) == 2


def test_a_half_built_environment_is_built_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        folder.mkdir()
        (folder / "half").touch()
        raise EnvironmentBroken("no network")

    with pytest.raises(EnvironmentBroken):
        built(tmp_path, "client", "one==1", fail)
    folder = built(tmp_path, "client", "one==1", lambda folder: folder.mkdir())
    assert not (folder / "half").exists()


def test_every_version_is_pinned() -> None:
    for file in REQUIREMENTS.glob("*.txt"):
        assert all("==" in line for line in file.read_text(encoding="utf-8").split())
