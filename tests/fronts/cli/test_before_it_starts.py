"""`--dry-run` and `--download`: what a command would do and take, and downloads that nobody agreed to."""

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.fixtures.command_line import Wan
from tests.support.far_models import add_far_model
from wan_mcp.settings import Settings


@pytest.fixture(autouse=True)
def _an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def test_a_dry_run_prints_an_estimate_and_makes_nothing(here: Wan, settings: Settings, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48), "teal").save(tmp_path / "picture.png")
    for command in (
        ("generate", "video", "a red star", "-o", "star.mp4"),
        ("generate", "image", "a red star", "--image", "picture.png"),
        ("caption", "picture.png"),
    ):
        run = here(*command, "--dry-run")
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("Dry run, nothing was queued: ")
        assert "Download: nothing." in run.stdout
    assert not settings.home.exists()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["picture.png", "pictures"]


def test_a_dry_run_as_json_has_the_request_and_the_estimate(here: Wan) -> None:
    found = json.loads(here("generate", "video", "a red star", "--duration", 1, "--dry-run", "--json").stdout)
    assert found["request"]["num_frames"] == 9
    assert found["estimate"]["fit"] == "resident"
    assert found["estimate"]["seconds"] is None


def test_a_dry_run_refuses_what_the_command_would_refuse(here: Wan) -> None:
    for wrong in (("--frames", 6), ("-o", "star.txt"), ("--model", "no-such")):
        run = here("generate", "video", "a red star", *wrong, "--dry-run")
        assert (run.returncode, run.stdout) == (2, "")


def test_a_large_download_is_refused_in_the_words_of_the_command_line(here: Wan, settings: Settings) -> None:
    add_far_model(settings.home, 34.2)
    refused = here("generate", "video", "a red star", "--model", "far")
    assert refused.returncode == 2
    assert "34.2 GB" in refused.stderr
    assert "add --download, or run 'wan-mcp pull far'" in refused.stderr
    assert "download=true" not in refused.stderr
    assert json.loads(here("jobs", "list", "--json").stdout) == []
    dry = here("generate", "video", "a red star", "--model", "far", "--dry-run")
    assert "it starts only with --download" in dry.stdout
    made = here("generate", "video", "a red star", "--model", "far", "--download")
    assert made.returncode == 0, made.stderr
    assert "--download" in here("remix", "latest", "--seed", "new").stderr
    assert here("remix", "latest", "--seed", "new", "--dry-run").stdout.startswith("Dry run")
    assert here("again", made.stdout.strip(), "--seed", "new", "--dry-run").returncode == 2  # it has no receipt
