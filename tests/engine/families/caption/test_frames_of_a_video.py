"""A captioner that can looks at several frames of a video, and compares results with prompts by asking."""

from typing import Any

import pytest
from PIL import Image

from tests.fixtures.served_models import Place
from tests.support.loading import runner_in
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.schema.requests import CaptionRequest

QWEN = "qwen3-vl-2b"


@pytest.fixture
def qwen(place: Place, served: Any) -> Any:
    """The tiny model of the real class, which may say but a dozen tokens."""
    manifest = served(QWEN)
    caption = manifest.caption.model_copy(update={"max_new_tokens": 12})
    place.catalog.manifests[QWEN] = manifest.model_copy(update={"caption": caption})
    place.run(CaptionRequest(image="the picture", model=QWEN))
    return runner_in(place.runner, "captioner")


def gray(level: int) -> Image.Image:
    return Image.new("RGB", (64, 48), (level, level, level))


def texts_of(qwen: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    generate = qwen._model.generate

    def listen(**inputs: Any) -> Any:
        seen.append(inputs)
        return generate(**inputs)

    monkeypatch.setattr(qwen._model, "generate", listen)
    return seen


def test_each_frame_is_read_in_the_order_of_time(qwen: Any, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = texts_of(qwen, monkeypatch)
    plan = place.plan(CaptionRequest(image="the picture", model=QWEN))
    assert isinstance(plan, CaptionPlan)
    frames = [gray(level) for level in (0, 120, 240)]
    ear = place.ear(CaptionRequest(image="the picture", model=QWEN))
    with ear as report:
        qwen.describe(frames, "What happens?", report)
        qwen.describe(list(reversed(frames)), "What happens?", report)
    forth, back = seen
    text = qwen._processor.tokenizer.decode(forth["input_ids"][0])
    assert text.count("<|vision_start|>") == len(frames)
    assert "These are 3 frames of one video" in text
    grids = forth["image_grid_thw"].prod(-1).tolist()
    first = forth["pixel_values"].split(grids)
    last = back["pixel_values"].split(grids)
    assert [float(each.mean()) for each in first] == sorted(float(each.mean()) for each in first)
    assert all(one.equal(other) for one, other in zip(first, reversed(last), strict=True))


def test_the_score_is_how_likely_yes_is(qwen: Any, place: Place) -> None:
    ear = place.ear(CaptionRequest(image="the picture", model=QWEN))
    with ear as report:
        score = qwen.agreement([gray(120)], "Does this picture show a gray wall?", report)
        assert 0 < score < 1
        assert score == qwen.agreement([gray(120)], "Does this picture show a gray wall?", report)
