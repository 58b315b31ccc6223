"""Families of packages on the command line: manifests are checked against them, in a process without torch."""

from pathlib import Path

import pytest

from tests.fixtures.command_line import Wan
from tests.support.distributions import Site

MANIFEST = """
schema = 1
name = "tiny"
title = "Tiny"
summary = "A model of a test."
tasks = ["text-to-video"]
licence = {{ id = "Apache-2.0" }}
weights = {{ repository = "acme/tiny", disk_bytes = 1 }}
pipeline = {{ family = "{family}" }}
frames = {{ multiple = 8, minimum = 9, maximum = 17, default = 9, fps = 8 }}
sizes = {{ multiple = 32, default = "small", named = [{{ name = "small", width = 64, height = 64 }}] }}
"""
HEAVY = """
import torch
from wan_mcp.catalog.families import FamilySpec
FAMILY = FamilySpec(name="heavy", tasks={"text-to-video"}, loader="x:load")
"""


@pytest.mark.parametrize(
    ("family", "code", "said"),
    [
        ("light", 0, "'tiny' is a valid manifest (text-to-video)"),
        (
            "heavy",
            2,
            "'pipeline.family': the family 'heavy' of family-heavy 2.5 cannot be used: its record imports "
            "torch, which servers never do; name the loader as text instead",
        ),
        ("nowhere", 2, "'pipeline.family': no family 'nowhere'; there are: wan, z-image, flux2-klein, "),
    ],
)
def test_a_manifest_is_checked_against_the_families_that_are_installed(
    wan: Wan, tmp_path: Path, family: str, code: int, said: str
) -> None:
    site = Site(tmp_path / "site")
    site.add_sound("light")
    site.add("heavy", HEAVY)
    (tmp_path / "site" / "torch.py").write_text("", encoding="utf-8")  # in place of the real one, which takes seconds
    file = tmp_path / "tiny.toml"
    file.write_text(MANIFEST.format(family=family), encoding="utf-8")
    run = wan("models", "check", file, PYTHONPATH=str(tmp_path / "site"))
    assert run.returncode == code
    assert said in run.stdout + run.stderr
