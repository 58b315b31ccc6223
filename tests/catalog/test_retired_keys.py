"""What 0.1.0 allowed in a manifest and never read: such a file stays usable, and its owner hears of it once."""

import logging
import os
from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.runner import build_runner
from wan_mcp.errors import BrokenManifest
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.settings import Settings

REMARKS = 3  # sigma_max, sigma_min, block_class


def ignored(text: str) -> list[str]:
    return [line for line in text.splitlines() if "is ignored" in line]


def touch(file: Path) -> None:
    """Have a file look changed."""
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1_000_000_000))


def test_a_manifest_of_0_1_0_means_what_it_meant(settings: Settings, old_manifest: Path) -> None:
    catalog = Catalog.of(settings.home)
    assert catalog.broken == {}
    ours = catalog.get("wan2.2-t2v-a14b").model_dump()
    pinning_nothing = ours["weights"] | {"revision": None}
    saying_less = ours["sizes"] | {"named": tuple(size | {"official": True} for size in ours["sizes"]["named"])}
    expected = ours | {"name": "my-wan", "weights": pinning_nothing, "sizes": saying_less}
    assert catalog.get("my-wan").model_dump() == expected
    plan = Planner(settings, catalog).plan(VideoRequest(prompt="a red circle", model="my-wan"))
    assert isinstance(plan, VideoPlan)
    assert (plan.width, plan.height, plan.num_frames, plan.steps) == (832, 480, 81, 40)
    assert (plan.guidance_scale, plan.guidance_scale_2) == (4.0, 3.0)


@pytest.mark.parametrize("folder", [shipped_folder(), Path(__file__).parents[2] / "examples" / "manifests"])
def test_manifests_that_come_with_us_are_whole_and_have_no_retired_keys(folder: Path) -> None:
    catalog = Catalog(folder)
    assert catalog.manifests
    assert (catalog.remarks, catalog.broken) == ((), {})


def test_each_ignored_key_is_logged_once_however_often_manifests_are_read(
    settings: Settings, old_manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    catalog = Catalog.of(settings.home)
    for _ in range(2):
        touch(old_manifest)
        catalog.refresh()
    assert len(ignored(caplog.text)) == REMARKS
    assert all(str(old_manifest) in line for line in ignored(caplog.text))
    assert len(catalog.remarks) == REMARKS


def test_an_engine_logs_it_once_for_all_its_jobs(
    settings: Settings, old_manifest: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plan = Planner(settings, Catalog.of(settings.home)).plan(VideoRequest(prompt="x", model="my-wan"))
    job = Job(id="1", request_id=None, state=JobState.RUNNING, plan=plan, created_at=0)
    caplog.clear()
    runner = build_runner(settings)
    for _ in range(3):
        assert runner.needs_download(job)
    assert len(ignored(caplog.text)) == REMARKS
    old_manifest.unlink()
    assert not runner.needs_download(job)  # there is no such model any more: what was read is not kept for good


def test_a_package_that_a_manifest_names_is_no_longer_loaded_and_that_is_said(old_manifest: Path) -> None:
    text = old_manifest.read_text(encoding="utf-8")
    old_manifest.write_text(text.replace("[aot]\n", f'[aot]\npackage_sha256 = "{"0" * 64}"\n'), encoding="utf-8")
    remarks: list[str] = []
    assert Manifest.read(old_manifest, remarks.append).name == "my-wan"
    [said] = [remark for remark in remarks if "'aot.package_sha256'" in remark]
    assert "no longer loaded" in said


def test_a_recipe_that_never_did_anything_is_ignored_with_those_that_are_allowed(old_manifest: Path) -> None:
    text = old_manifest.read_text(encoding="utf-8")
    assert text.count('recipe = "fp8-rowwise"') == 1
    old_manifest.write_text(text.replace('"fp8-rowwise"', '"int8"'), encoding="utf-8")
    remarks: list[str] = []
    assert Manifest.read(old_manifest, remarks.append).quantization is None
    [said] = [remark for remark in remarks if "'quantization.recipe' = \"int8\"" in remark]
    assert "'fp8-rowwise' and 'gguf' are allowed" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("sigma_max = 1.0", "sigma_mid = 1.0", r"unknown key 'pipeline\.experts\.0\.sigma_mid'"),
        ("block_class =", "block_size =", "unknown key 'aot'"),
        ("[aot]\n", '[aot]\nkernel = "fast"\n', "unknown key 'aot'"),
        ('"fp8-rowwise"', '"int4"', r"'quantization\.recipe': must be 'fp8-rowwise' or 'gguf'"),
        ("turbo = true", "sigma_max = 1.0", r"unknown key 'pipeline\.sigma_max'"),
        ("schema = 1\n", 'schema = 1\nblock_class = "x"\n', "unknown key 'block_class'"),
        ("experts = [\n", "experts = [\n  3,\n", r"'pipeline\.experts\.0'"),
    ],
)
def test_every_other_unknown_key_is_still_an_error(old_manifest: Path, old: str, new: str, said: str) -> None:
    text = old_manifest.read_text(encoding="utf-8")
    assert old in text
    old_manifest.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(BrokenManifest, match=said):
        Manifest.read(old_manifest)
