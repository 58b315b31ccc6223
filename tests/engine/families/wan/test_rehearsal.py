"""A rehearsal runs a model's kernels in other processes, and costs a job nothing if it fails."""

import json
import logging
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fixtures.bench import MANIFESTS, TWO, changed
from tests.support.loading import context_of
from wan_mcp.catalog.manifest import Quantization
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan import rehearsal
from wan_mcp.engine.families.wan.memory_plan import memory_plan
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.settings import Settings

IN_FP8 = changed(MANIFESTS[TWO], quantization=Quantization(recipe="fp8-rowwise"))


@pytest.fixture
def context(embedded: Path, tmp_path: Path) -> LoadContext:
    shutil.copytree(embedded / TWO, tmp_path / TWO)
    (tmp_path / "home").mkdir()
    settings = Settings(home=tmp_path / "home", device="cpu")
    return replace(context_of(IN_FP8, tmp_path / TWO, "fp8", sha256="known"), settings=settings)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_blocks_and_vae_are_rehearsed_and_what_fails_is_done_without(
    context: LoadContext, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    good = rehearsal.start(context)
    (tmp_path / "broken" / "vae").mkdir(parents=True)
    (tmp_path / "broken" / "vae" / "config.json").write_text("{}x")
    weights = replace(context.weights, folder=tmp_path / "broken")
    bad = rehearsal.start(replace(context, weights=weights, requested="auto"))
    for each in (bad, good):
        each.finish()
    said = [record.getMessage() for record in caplog.records if record.name == rehearsal.__name__]
    assert [each for each in said if each.startswith("rehearsal of")] == [
        "rehearsal of the VAE: failed, and is done without",
        "rehearsal of the VAE: ended",
        "rehearsal of the attention: ended",
        "rehearsal of the blocks: ended",
    ]


def test_a_rehearsal_that_takes_too_long_is_ended_and_so_is_that_of_a_load_that_failed(
    context: LoadContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "PATIENCE_S", 0.0)
    for end in (rehearsal.Rehearsal.finish, rehearsal.Rehearsal.end):
        begun = rehearsal.start(context)
        pids = [process.pid for process in begun._processes.values()]
        assert len(pids) == 3 and all(map(is_running, pids))
        end(begun)
        assert not any(map(is_running, pids))
        end(begun)


def test_a_cpu_has_nothing_to_rehearse(context: LoadContext) -> None:
    plan = memory_plan(IN_FP8, context.device, context.precision)
    assert not rehearsal.rehearse(context, plan)._processes


def test_the_kinds_of_blocks_are_those_that_the_loader_makes(context: LoadContext) -> None:
    (kind,) = rehearsal._kinds(context)
    config = json.loads((context.weights.folder / "transformer" / "config.json").read_text())
    assert kind.shape.heads == config["num_attention_heads"]
    assert kind.scheme == FP8
