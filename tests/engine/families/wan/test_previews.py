"""Live previews of real models: they look like the result, and looking changes none of its bytes."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.fixtures.bench import ONE, Bench, Ear, image_plan, video_plan
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.latent_rgb import LatentRGB
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.worker import previews as worker_previews
from wan_mcp.media.previews import PreviewStore
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import Plan

RANDOM = LatentRGB(factors=tuple((0.3 * (i % 3), 0.2, -0.1 * i) for i in range(48)))


def sha256(job: Job) -> str:
    [artifact] = job.artifacts
    return hashlib.sha256(Path(artifact.path).read_bytes()).hexdigest()


def pixels(job: Job) -> Any:
    with Image.open(job.artifacts[0].path) as picture:
        return np.asarray(picture.convert("RGB"), float)


@pytest.fixture
def watched(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Callable[[Plan], tuple[Job, list[Any]]]:
    """Run a plan while somebody looks, with a preview of every step; gives the job and their frames."""
    monkeypatch.setattr(worker_previews, "APART_S", 0.0)
    monkeypatch.setattr(worker_previews, "COST_SHARE", float("inf"))

    def run(plan: Plan) -> tuple[Job, list[Any]]:
        ear: Ear = bench.ear(plan)
        PreviewStore(bench.settings.home).look(ear.job.id)
        shown: list[Any] = []
        show = ear.previews.show

        def keep(frames: Any, size: tuple[int, int], cost_s: float) -> None:
            shown.append(frames)
            show(frames, size, cost_s)

        ear.previews.show = keep  # type: ignore[method-assign]
        return bench.run(plan, ear), shown

    return run


@pytest.mark.parametrize("plan", [image_plan(), video_plan()], ids=["image", "video"])
def test_the_same_bytes_come_out_whether_somebody_looks_or_not(
    bench: Bench, watched: Callable[[Plan], tuple[Job, list[Any]]], plan: Plan
) -> None:
    manifest = bench.catalog.manifests[ONE]
    pipeline = manifest.pipeline.model_copy(update={"latent_rgb": "random"})
    bench.catalog.manifests[ONE] = manifest.model_copy(update={"pipeline": pipeline})
    bench.catalog.latent_rgb["random"] = RANDOM
    alone = bench.run(plan)
    looked_at, shown = watched(plan)
    assert len(shown) == 3
    assert sha256(alone) == sha256(looked_at)


def test_the_last_preview_of_wan_mini_looks_like_its_picture(
    bench: Bench, watched: Callable[[Plan], tuple[Job, list[Any]]]
) -> None:
    catalog = Catalog.of(Path("no-home"))
    bench.catalog.manifests["wan-mini"] = catalog.get("wan-mini")
    bench.catalog.latent_rgb.update(catalog.latent_rgb)
    bench.runner._embedded = EMBEDDED
    job, shown = watched(image_plan("wan-mini", width=128, height=128, steps=6, seed=3))
    assert [frames.shape for frames in shown] == [(1, 16, 16, 3)] * 6
    made = pixels(job).reshape(16, 8, 16, 8, 3).mean((1, 3))
    alike = [np.corrcoef(frames[0].ravel(), made.ravel())[0, 1] for frames in shown]
    assert alike[-1] > 0.95
    assert alike[2] > 0.8
