"""Captions: the model's own words, the same ones each time, and an end within a token."""

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor, BlipForConditionalGeneration

from tests.fixtures.bench import BLIP, Bench, caption_plan, image_plan
from wan_mcp.errors import JobCancelled, JobFailed
from wan_mcp.schema.enums import Stage


def test_a_caption_is_what_the_model_says(bench: Bench, embedded: Path) -> None:
    picture = bench.picture()
    caption = bench.run(caption_plan(picture)).caption
    processor = AutoProcessor.from_pretrained(embedded / BLIP)
    model = AutoModelForImageTextToText.from_pretrained(embedded / BLIP)
    inputs = processor(images=Image.open(bench.settings.home / picture.file), return_tensors="pt")
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert caption
    assert caption == processor.decode(tokens[0], skip_special_tokens=True).strip()


def test_the_same_picture_gets_the_same_caption(bench: Bench) -> None:
    picture = bench.picture()
    assert bench.run(caption_plan(picture)).caption == bench.run(caption_plan(picture)).caption


def test_a_prompt_is_continued(bench: Bench) -> None:
    picture = bench.picture()
    caption = bench.run(caption_plan(picture, prompt="a red circle")).caption
    assert caption is not None
    assert caption.startswith("a red circle")


def test_a_caption_says_its_stages_and_tokens(bench: Bench) -> None:
    plan = caption_plan(bench.picture())
    ear = bench.ear(plan)
    bench.run(plan, ear)
    assert [stage for stage, _ in ear.heard] == [Stage.LOAD, Stage.ENCODE, Stage.DENOISE]
    assert ear.details[0] == "1 of at most 6 tokens"


def test_a_cancelled_caption_stops_within_a_token_and_the_next_is_the_same(bench: Bench) -> None:
    plan = caption_plan(bench.picture())
    before = bench.run(plan).caption
    ear = bench.ear(plan)
    ear.stop_at, ear.error = lambda ear: len(ear.details) == 2, JobCancelled
    with pytest.raises(JobCancelled):
        bench.run(plan, ear)
    assert bench.run(plan).caption == before


def test_a_picture_that_is_gone_fails_the_caption(bench: Bench) -> None:
    picture = bench.picture()
    (bench.settings.home / picture.file).unlink()
    with pytest.raises(JobFailed, match="Submit it again"):
        bench.run(caption_plan(picture))


@pytest.mark.parametrize("place", ["loading", "writing"])
def test_a_caption_that_runs_out_of_memory_is_made_without_the_other_model(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    picture = bench.picture()
    usual = bench.run(caption_plan(picture)).caption
    bench.runner._drop("captioner")
    bench.run(image_plan())
    loading = (AutoModelForImageTextToText, "from_pretrained")
    owner, name = loading if place == "loading" else (BlipForConditionalGeneration, "generate")
    real = getattr(owner, name)

    def short_of_memory(*arguments: Any, **options: Any) -> Any:
        if "generator" in bench.runner._models:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, short_of_memory)
    assert bench.run(caption_plan(picture)).caption == usual
    assert list(bench.runner._models) == ["captioner"]
    monkeypatch.setattr(owner, name, Mock(side_effect=torch.OutOfMemoryError("CUDA out of memory")))
    bench.runner._drop("captioner")
    with pytest.raises(JobFailed, match="Memory ran out while"):
        bench.run(caption_plan(picture))
