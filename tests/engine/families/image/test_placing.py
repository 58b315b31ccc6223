"""Image models where not all parts have room on the device: which parts move, and that results do not notice."""

import itertools
import logging
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from tests.fixtures.served_models import IMAGE_MODELS, Place
from tests.support.image_jobs import model_of, pixels, request
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.image import loader as pictures
from wan_mcp.engine.families.image.loader import choose_plan
from wan_mcp.engine.families.image.pipeline import ImageRunner
from wan_mcp.engine.offload import layerwise as visiting
from wan_mcp.errors import JobCancelled
from wan_mcp.schema.requests import CaptionRequest

Served = Callable[[str], Manifest]
GB = 10**9


@pytest.fixture
def far_away(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What is lent holds no numbers where it lives, as if that were another device: only what was brought does."""
    true_lend, lent, numbers = visiting.offload_layerwise, [], {}

    def offload_layerwise(part: Any, device: torch.device, *, often: bool = False) -> None:
        true_lend(part, device, often=often)
        for tensor in (*part.parameters(), *part.buffers()):
            lent.append(tensor)
            numbers[id(tensor)] = tensor.detach().clone()
            if tensor.is_floating_point():
                tensor.data.fill_(float("nan"))

    monkeypatch.setattr(visiting, "offload_layerwise", offload_layerwise)
    monkeypatch.setattr(pictures, "offload_layerwise", offload_layerwise)
    monkeypatch.setattr(visiting, "_brought", lambda tensor, device: numbers[id(tensor)])
    yield lent


@pytest.mark.parametrize("plan", ["encoder-offloaded", "streamed"])
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_an_image_is_the_same_to_the_bit_wherever_its_parts_live(
    name: str, plan: Any, place: Place, served: Served, monkeypatch: pytest.MonkeyPatch, far_away: list[Any]
) -> None:
    manifest = served(name)
    before = [pixels(place.run(request(name, task)).artifacts[0].path) for task in manifest.tasks]
    assert not far_away
    monkeypatch.setattr(pictures, "_plan_for", lambda *_: plan)
    shutil.rmtree(place.settings.home / "embeddings", ignore_errors=True)  # so that the encoder works again
    place.new_runner()
    after = [pixels(place.run(request(name, task)).artifacts[0].path) for task in manifest.tasks]
    assert after == before
    parts = model_of(place).parts
    assert (parts.transformer.dtype, parts.text_encoder.dtype) == (torch.float32, torch.float32)
    moved = {id(tensor) for tensor in far_away}
    assert all((id(tensor) in moved) is (plan == "streamed") for tensor in parts.transformer.parameters())
    assert not [tensor for tensor in parts.vae.parameters() if id(tensor) in moved]


@pytest.mark.parametrize("name", ["z-image-turbo", "qwen-image-edit-2511"])
def test_an_image_that_runs_out_of_memory_is_made_with_more_parts_in_main_memory(
    name: str, place: Place, served: Served, monkeypatch: pytest.MonkeyPatch, far_away: list[Any]
) -> None:
    manifest = served(name)
    task = manifest.tasks[0]
    before = pixels(place.run(request(name, task)).artifacts[0].path)
    shutil.rmtree(place.settings.home / "embeddings", ignore_errors=True)
    place.new_runner()
    monkeypatch.setattr(pictures, "_has_own_memory", lambda device: True)
    seen: list[str] = []
    paint = ImageRunner._paint

    def short(self: ImageRunner, *arguments: Any) -> Any:
        seen.append(self._model.offload)
        made = paint(self, *arguments)
        if self._model.offload != "streamed":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 340.00 MiB.")
        return made

    with monkeypatch.context() as patch:
        patch.setattr(ImageRunner, "_paint", short)
        assert pixels(place.run(request(name, task)).artifacts[0].path) == before
    assert seen == ["resident", "encoder-offloaded", "streamed"]
    assert pixels(place.run(request(name, task)).artifacts[0].path) == before, "and so is the next"


def test_a_captioner_makes_way_before_an_image_model_has_to_come_from_main_memory(
    place: Place, served: Served, monkeypatch: pytest.MonkeyPatch, far_away: list[Any]
) -> None:
    name, task = "z-image-turbo", served("z-image-turbo").tasks[0]
    served("blip-large")

    def plan_for(*_: object) -> str:
        return "resident" if place.runner.loaded().captioner is None else tight

    monkeypatch.setattr(pictures, "_plan_for", plan_for)
    for tight in ("resident", "encoder-offloaded", "streamed"):
        place.new_runner()
        place.run(CaptionRequest(image="the picture", model="blip-large"))
        place.run(request(name, task))
        assert (place.runner.loaded().captioner is not None) is (tight == "resident")
        assert not far_away


def test_a_job_that_stops_while_layers_visit_leaves_the_next_one_as_it_was(
    place: Place, served: Served, monkeypatch: pytest.MonkeyPatch, far_away: list[Any]
) -> None:
    name, task = "z-image-turbo", served("z-image-turbo").tasks[0]
    monkeypatch.setattr(pictures, "_plan_for", lambda *_: "streamed")
    before = place.run(request(name, task))
    ear, looks = place.ear(request(name, task)), itertools.count()
    # Between the second step's blocks, when the denoiser's own tensors are abroad.
    ear.stop_at = lambda ear: len(ear.steps) == 2 and next(looks) > 2
    ear.error = JobCancelled
    with pytest.raises(JobCancelled):
        place.run(request(name, task), ear)
    assert {tensor.isnan().all().item() for tensor in model_of(place).parts.transformer.parameters()} == {True}
    assert pixels(place.run(request(name, task)).artifacts[0].path) == pixels(before.artifacts[0].path)


@pytest.mark.parametrize(
    ("free", "plan"),
    [(60, "resident"), (24, "resident"), (20, "encoder-offloaded"), (16, "encoder-offloaded"), (12, "streamed")],
)
def test_the_encoder_goes_first_and_then_the_denoiser(free: int, plan: str) -> None:
    of_z_image = {"text_encoder": 8 * GB, "transformer": 12 * GB, "vae": GB // 5}
    assert choose_plan(of_z_image, 3 * GB, free * GB) == plan


def test_the_plan_for_a_gpu_is_made_of_what_is_free_and_is_said_in_the_log(
    place: Place, served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    manifest = served("z-image-turbo")
    place.run(request("z-image-turbo", manifest.tasks[0], steps=2))
    loaded = model_of(place).parts
    gpu = Device(torch.device("cuda", 0), "bf16", "some GPU")
    for free, plan in ((80 * GB, "resident"), (GB, "streamed")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 80 * GB))
        assert pictures._plan_for(manifest, loaded, gpu) == plan
        assert pictures.DESCRIPTIONS[plan] in caplog.text
