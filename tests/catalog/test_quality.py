"""How close a result is follows from how the model is run, and is said before and after."""

from dataclasses import replace
from pathlib import Path

import pytest

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.presets import Preset
from wan_mcp.catalog.quality import quality_of
from wan_mcp.hardware.machine import Machine
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.plans import StepCache
from wan_mcp.service import model_status
from wan_mcp.service.model_status import model_statuses
from wan_mcp.settings import Settings

HOPPER = Machine("GPU", "bf16", 80 * 10**9, has_fp8=True)


@pytest.mark.parametrize(
    ("precision", "attention", "left_out", "quality"),
    [
        ("fp32", None, {}, "exact"),
        ("bf16", "sdpa", {}, "exact"),
        ("bf16", "cudnn", {}, "exact"),
        ("bf16", "flash, joined", {}, "exact"),
        ("bf16", "cudnn-fp8", {}, "near"),
        ("bf16", "cudnn-fp8, joined", {}, "near"),
        ("bf16", "sage-fp8", {}, "near"),
        ("fp8-rowwise", "cudnn", {}, "near"),
        ("fp8", None, {}, "near"),
        ("gguf", None, {}, "near"),
        ("bf16", "cudnn", {"sparse": True}, "changed"),
        ("fp32", None, {"cached": True}, "changed"),
        ("fp8-rowwise", "cudnn-fp8", {"sparse": True, "cached": True}, "changed"),
    ],
)
def test_what_has_fewer_bits_is_near_and_what_leaves_out_changes(
    precision: str, attention: str | None, left_out: dict[str, bool], quality: str
) -> None:
    assert quality_of(precision, attention, **left_out) == quality


@pytest.mark.parametrize(
    ("machine", "asked", "wanted"),
    [
        (HOPPER, "auto", {None: "near", "draft": "changed", "standard": "changed", "best": "exact"}),
        (HOPPER, "full", {None: "exact", "draft": "changed", "standard": "changed", "best": "exact"}),
        (HOPPER, "fp8", {None: "near", "draft": "changed", "standard": "changed", "best": "near"}),
        (
            replace(HOPPER, has_fp8=False),
            "auto",
            {None: "exact", "draft": "changed", "standard": "changed", "best": "exact"},
        ),
    ],
)
def test_each_preset_has_the_quality_of_how_it_runs_here(
    machine: Machine, asked: str, wanted: dict[str | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_status, "this_machine", lambda settings: machine)
    settings, catalog = Settings(home=tmp_path, precision=asked), Catalog(shipped_folder())
    presets = {
        "draft": Preset(turbo=True),
        "standard": Preset(step_cache=StepCache(threshold=0.1)),
        "best": Preset(precision="full"),
    }
    model = catalog.get("wan2.1-t2v-1.3b").model_copy(update={"presets": presets})
    [status] = model_statuses([model], Planner(settings, catalog), settings, None).values()
    assert status.qualities == wanted
