"""An engine that was started with other settings than a job's caller has: it follows them, or the result says so."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, bench, caption_plan, changed, embedded, image_plan
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.asked_settings import unmet_settings
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.errors import JobFailed
from wan_mcp.media.receipts import read_receipt
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.plans import EngineSettings
from wan_mcp.schema.requests import ImageRequest
from wan_mcp.settings import Settings

__all__ = ["bench", "embedded"]


@pytest.fixture
def fp8(bench: Bench) -> Bench:
    """An engine that was started with precision=fp8."""
    bench.runner._settings = bench.settings.model_copy(update={"precision": "fp8", "compile": False})
    bench.catalog.manifests[TWO] = changed(MANIFESTS[TWO], quantization=Quantization(recipe="fp8-rowwise"))
    return bench


@pytest.mark.parametrize(
    "settings",
    [{}, {"precision": "full"}, {"attention": "cudnn"}, {"compile": False}, {"threads": 3, "device": "cpu"}],
    ids=str,
)
def test_a_plan_carries_the_settings_of_its_caller_that_are_no_defaults(tmp_path: Path, settings: Any) -> None:
    planner = Planner(Settings(home=tmp_path, **settings), Catalog.of(tmp_path))
    plan = planner.plan(ImageRequest(prompt="rain", model="wan-mini"))
    assert plan.engine == (EngineSettings(**settings) if settings else None)
    assert plan.model_dump(mode="json").get("engine", {}) == settings
    assert "engine" in plan.model_dump() or not settings, "plans look as before where nothing is asked for"
    assert type(plan).model_validate_json(plan.model_dump_json()) == plan


def test_the_precision_of_the_caller_takes_precedence(fp8: Bench) -> None:
    ours = fp8.run(image_plan(TWO))
    asked = fp8.run(image_plan(TWO, engine=EngineSettings(precision="full")))
    assert fp8.runner.loaded().generator == (TWO, "full")
    first, second = ((read_receipt(Path(job.artifacts[0].path)) or {})["precision"] for job in (ours, asked))
    assert (first, second) == ("fp8-rowwise", "fp32")
    assert fp8.runner.loaded().has(image_plan(TWO, engine=EngineSettings(precision="full")), "fp8")
    assert not fp8.runner.loaded().has(image_plan(TWO), "fp8")


def test_an_attention_kernel_that_the_caller_asks_for_is_used_or_refused(fp8: Bench) -> None:
    with pytest.raises(JobFailed, match="Attention kernel cudnn does not work on cpu"):
        fp8.run(image_plan(TWO, engine=EngineSettings(attention="cudnn")))
    assert fp8.run(image_plan(TWO, engine=EngineSettings(attention="sdpa"))).notes == ()
    assert fp8.run(image_plan(TWO)).notes == ()


def test_what_an_engine_cannot_follow_is_said_in_the_result(bench: Bench) -> None:
    own = torch.get_num_threads()
    asked = EngineSettings(device="cuda:1", threads=own + 1)
    for plan in (image_plan(ONE, engine=asked), caption_plan(bench.picture(), engine=asked)):
        device, threads = [note for note in bench.run(plan).notes if " asked for" in note]
        assert "device cuda:1 was asked for, but the engine of cpu ran this job" in device
        assert f"threads {own + 1} were asked for, but the engine that ran this job had {own}" in threads
    assert bench.run(image_plan(ONE, engine=EngineSettings(device="cpu", threads=own))).notes == ()


def test_what_has_no_effect_on_a_model_is_said_in_the_result(bench: Bench) -> None:
    (said,) = bench.run(image_plan(ONE, engine=EngineSettings(attention="sdpa"))).notes
    assert "attention sdpa has no effect on 'tiny-one' here" in said
    manifest = Catalog.of(bench.settings.home).get("z-image-turbo")
    asked = image_plan("z-image-turbo", engine=EngineSettings(attention="sdpa", precision="fp8"))
    precision, attention = unmet_settings(asked, manifest, resolve_device("cpu"))
    assert "precision fp8 has no effect on 'z-image-turbo', which runs in fp32" in precision
    assert "attention sdpa has no effect on 'z-image-turbo'" in attention
