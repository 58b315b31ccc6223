"""--lora: adapters in one word."""

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import typer
from safetensors.numpy import save_file

from tests.fixtures.command_line import Wan
from wan_mcp.fronts.cli.lora_option import parse_lora
from wan_mcp.schema.requests import LoraRequest
from wan_mcp.settings import Settings

MANIFEST = """
schema = 1
name = "mine"
title = "Mine"
summary = "A model of a test."
tasks = ["text-to-video", "text-to-image"]
licence = { id = "Apache-2.0" }
weights = { repository = "acme/tiny", disk_bytes = 1 }
frames = { multiple = 4, minimum = 5, maximum = 9, default = 5, fps = 8 }
sizes = { multiple = 16, default = "small", named = [{ name = "small", width = 64, height = 64 }] }
limits = { loras = 2 }
[pipeline]
family = "wan"
boundary_ratio = 0.9
experts = [{ name = "high-noise", subfolder = "transformer" }, { name = "low-noise", subfolder = "transformer_2" }]
"""


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("style", {"name": "style"}),
        ("style:0.8", {"name": "style", "scale": 0.8}),
        ("style:-1@low-noise", {"name": "style", "scale": -1.0, "expert": "low-noise"}),
        ("style@low-noise", {"name": "style", "expert": "low-noise"}),
        ("v1.5", {"name": "v1.5"}),
        ("/a/b c.safetensors:.5", {"path": "/a/b c.safetensors", "scale": 0.5}),
        (
            "/a:b/c@d/e.safetensors:2@high-noise",
            {"path": "/a:b/c@d/e.safetensors", "scale": 2.0, "expert": "high-noise"},
        ),
    ],
)
def test_a_lora_is_one_word(written: str, meant: dict[str, Any]) -> None:
    assert parse_lora(written) == LoraRequest(**meant)


def test_a_path_is_below_the_folder_where_the_command_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_lora("style.safetensors:0.5").path == str(tmp_path / "style.safetensors")
    assert parse_lora("./style").path == str(tmp_path / "style")


@pytest.mark.parametrize("written", ["", "style:loud", "style:", ":0.5"])
def test_what_is_no_lora_is_refused(written: str) -> None:
    with pytest.raises(typer.BadParameter, match="NAME"):
        parse_lora(written)


def test_loras_of_the_command_line_reach_the_plan(wan: Wan, settings: Settings, tmp_path: Path) -> None:
    for folder in ("loras", "manifests"):
        (settings.home / folder).mkdir(parents=True)
    (settings.home / "manifests" / "mine.toml").write_text(MANIFEST, encoding="utf-8")
    for file in (settings.home / "loras" / "named.safetensors", tmp_path / "mine.safetensors"):
        save_file({"x": numpy.ones(1, dtype=numpy.float32)}, file)
    model = ("--model", "mine")
    run = wan(
        "generate", "video", "a star", *model, "--lora", "named:0.8@low-noise", "--lora", "mine.safetensors", "--json"
    )
    assert run.returncode == 0, run.stderr
    loras = json.loads(run.stdout)["plan"]["lora"]
    assert [(lora["name"], lora["scale"], lora["expert"]) for lora in loras] == [
        ("named", 0.8, "low-noise"),
        ("mine", 1.0, None),
    ]
    run = wan("generate", "video", "a star", *model, "--lora", "named.safetensors", "--json")
    assert json.loads(run.stdout)["plan"]["lora"][0]["name"] == "named"
    refused = wan("generate", "image", "a star", *model, "--lora", "nobody")
    assert refused.returncode == 2
    assert "available: named" in refused.stderr
    refused = wan("generate", "image", "a star", *model, "--lora", "named:loud")
    assert refused.returncode == 2
    assert "NAME|PATH[:SCALE][@EXPERT]" in refused.stderr
