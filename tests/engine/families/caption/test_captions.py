"""Every shipped captioner, in small: pulled, loaded, asked in all its ways, stopped and repeated."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.fixtures.served_models import CAPTION_MODELS, SHIPPED, Place
from tests.support.caption_models import PICTURE
from tests.support.loading import runner_in
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.input_images import open_input
from wan_mcp.engine.components.qwen_processor import QwenProcessor
from wan_mcp.engine.device.device import Device
from wan_mcp.errors import BadRequest, JobCancelled, JobFailed
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.jobs import Job
from wan_mcp.schema.plans import CaptionPlan
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.weights.fetch import fetch
from wan_mcp.weights.hub import Hub
from wan_mcp.weights.installed import installed_weights

Served = Callable[[str], Manifest]

TOKENS = 12
CLASSES = {
    "blip-large": "BlipForConditionalGeneration",
    "florence-2-base": "Florence2ForConditionalGeneration",
    "florence-2-large": "Florence2ForConditionalGeneration",
    "joycaption-beta-one": "LlavaForConditionalGeneration",
    "qwen3-vl-2b": "Qwen3VLForConditionalGeneration",
    "qwen3-vl-4b": "Qwen3VLForConditionalGeneration",
    "qwen3-vl-8b": "Qwen3VLForConditionalGeneration",
}
JOY = "joycaption-beta-one"
SAMPLING = [name for name in CAPTION_MODELS if (caption := SHIPPED.get(name).caption) and caption.samples]


def request(name: str, **asked: Any) -> CaptionRequest:
    return CaptionRequest(image="the picture", model=name, **asked)


@pytest.fixture
def brief(place: Place, served: Served) -> Callable[[str], Manifest]:
    """`brief(name)`: a shipped captioner that may say but a dozen tokens."""

    def serve(name: str) -> Manifest:
        manifest = served(name)
        assert manifest.caption is not None
        caption = manifest.caption.model_copy(update={"max_new_tokens": TOKENS})
        place.catalog.manifests[name] = manifest.model_copy(update={"caption": caption})
        return place.catalog.manifests[name]

    return serve


def captioner_of(place: Place) -> Any:
    return runner_in(place.runner, "captioner")


def text_seen(place: Place, run: Callable[[], Job]) -> str:
    """What the model reads, as text with all its marks."""
    captioner, seen = captioner_of(place), []
    generate = captioner._model.generate

    def listen(**inputs: Any) -> Any:
        seen.append(inputs["input_ids"][0])
        return generate(**inputs)

    captioner._model.generate = listen
    run()
    captioner._model.generate = generate
    tokenizer = captioner._processor.tokenizer
    return str(tokenizer.decode(seen[0], skip_special_tokens=False))


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_a_captioner_is_pulled_loaded_and_says_something(name: str, place: Place, brief: Served) -> None:
    brief(name)
    ear = place.ear(request(name))
    job = place.run(request(name), ear)
    assert [stage for stage, _ in ear.heard] == [Stage.DOWNLOAD, Stage.LOAD, Stage.ENCODE, Stage.DENOISE]
    assert ear.details[-1].endswith(f"of at most {TOKENS} tokens")
    assert job.caption
    assert type(captioner_of(place)._model).__name__ == CLASSES[name]
    assert not [file for file in place.hub.file_requests() if file.path.endswith((".bin", ".md"))]


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_the_same_request_gets_the_same_caption_from_a_studio_that_starts_anew(
    name: str, place: Place, brief: Served
) -> None:
    brief(name)
    first = place.run(request(name))
    again = place.run(request(name))
    place.new_runner()
    anew = place.run(request(name))
    assert first.caption == again.caption == anew.caption


def test_a_captioner_whose_weights_were_updated_is_loaded_for_the_next_job(
    place: Place, brief: Served, repository: Callable[[Manifest], Path], tmp_path: Path
) -> None:
    manifest = brief("blip-large")
    place.run(request(manifest.name))
    first = captioner_of(place)
    place.run(request(manifest.name))
    assert captioner_of(place) is first
    changed = shutil.copytree(repository(manifest), tmp_path / "changed")
    (changed / "config.json").write_text((changed / "config.json").read_text() + "\n")
    assert manifest.weights.repository is not None
    place.hub.add(manifest.weights.repository, changed)
    hub = Hub(place.hub.endpoint, place.settings.home.parent / "cache", False)
    fetch(manifest, place.settings.home, lambda download: None, hub=hub, update=True)
    place.run(request(manifest.name))
    assert captioner_of(place) is not first


@pytest.mark.parametrize("name", SAMPLING)
def test_another_seed_gives_another_caption(name: str, place: Place, brief: Served) -> None:
    brief(name)
    captions = [place.run(request(name, seed=seed)).caption for seed in (0, 1, 2, 1)]
    assert captions[1] == captions[3]
    assert len(set(captions)) == 3
    assert place.run(request(name)).caption == captions[0]


def test_a_captioner_that_does_not_sample_says_that_a_seed_changes_nothing(place: Place) -> None:
    plan = place.plan(request("blip-large", seed=3))
    assert isinstance(plan, CaptionPlan)
    assert plan.seed is None
    assert plan.notes == ("'blip-large' is deterministic: the seed has no effect",)


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_a_cancelled_caption_stops_within_a_token_and_the_next_is_the_same(
    name: str, place: Place, brief: Served
) -> None:
    brief(name)
    before = place.run(request(name)).caption
    ear = place.ear(request(name))
    ear.stop_at, ear.error = lambda ear: len(ear.details) == 3, JobCancelled
    with pytest.raises(JobCancelled):
        place.run(request(name), ear)
    assert len(ear.details) == 3
    assert place.run(request(name)).caption == before


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_a_caption_that_was_cut_says_so(name: str, place: Place, brief: Served) -> None:
    brief(name)
    said = f"the caption was cut after {TOKENS} tokens"
    place.run(request(name))
    captioner_of(place)._ended = lambda answer: False
    assert place.run(request(name)).notes == (said,)
    captioner_of(place)._ended = lambda answer: True
    assert place.run(request(name)).notes == ()


@pytest.mark.parametrize("name", ["qwen3-vl-2b", JOY, "florence-2-base"])
def test_a_caption_is_what_the_model_itself_says(name: str, place: Place, brief: Served) -> None:
    manifest = brief(name)
    job = place.run(request(name, seed=7))
    weights, spec, plan = installed_weights(manifest, place.settings.home), manifest.caption, job.plan
    assert weights is not None
    assert spec is not None
    assert isinstance(plan, CaptionPlan)
    model = AutoModelForImageTextToText.from_pretrained(weights.folder)
    picture = open_input(place.media, plan.image)
    processor: Any = QwenProcessor(weights.folder)
    if name != "qwen3-vl-2b":
        processor = AutoProcessor.from_pretrained(weights.folder)
    text = plan.prompt
    if name != "florence-2-base":
        chat: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}]
        if name == JOY:
            chat = [{"role": "system", "content": spec.system_prompt}, {"role": "user", "content": text}]
        text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    inputs = processor(text=[text], images=[picture], return_tensors="pt")
    torch.manual_seed(7)
    sampling = {"do_sample": True, "temperature": spec.temperature, "top_p": spec.top_p, "top_k": spec.top_k}
    ways = sampling if spec.samples else {"do_sample": False, "num_beams": spec.num_beams}
    with torch.no_grad():
        tokens = model.generate(**inputs, max_new_tokens=TOKENS, **ways)
    new = tokens[0] if name == "florence-2-base" else tokens[0, inputs["input_ids"].shape[1] :]
    assert job.caption == processor.decode(new, skip_special_tokens=True).strip()


@pytest.mark.parametrize("name", ["qwen3-vl-2b", JOY])
def test_a_chat_model_sees_the_picture(name: str, place: Place, brief: Served) -> None:
    brief(name)
    captions = []
    for colour in ("white", "red", "navy"):
        Image.new("RGB", (96, 80), colour).save(place.picture)
        captions.append(place.run(request(name)).caption)
    assert len(set(captions)) > 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "Write a long detailed description for this image."),
        ({"length": "any"}, "Write a detailed description for this image."),
        ({"length": "very short"}, "Write a very short detailed description for this image."),
        ({"length": "40"}, "Write a detailed description for this image in 40 words or less."),
        (
            {"caption_type": "Art Critic", "length": "any", "extra_options": ("name=Ada", "lighting")},
            "any artistic movement it might belong to, etc. If there is a person/character in the image you must "
            "refer to them as Ada. Include information about lighting.",
        ),
        ({"prompt": "How many stars?"}, "How many stars?"),
    ],
)
def test_joycaption_reads_the_instruction_of_type_length_and_options(
    asked: dict[str, Any], said: str, place: Place, brief: Served
) -> None:
    brief(JOY)
    place.run(request(JOY))
    text = text_seen(place, lambda: place.run(request(JOY, **asked)))
    marks = PICTURE * 16  # (56 / 14) squared
    assert text.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful image")
    assert f"user<|end_header_id|>\n\n{marks}" in text
    assert text.endswith(f"{said}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    assert text.count("<|begin_of_text|>") == 1


def test_qwen_reads_picture_and_instruction_in_its_own_template(place: Place, brief: Served) -> None:
    brief("qwen3-vl-4b")
    place.run(request("qwen3-vl-4b"))
    asked = request("qwen3-vl-4b", caption_type="tags", length="30", extra_options=["language=French"])
    text = text_seen(place, lambda: place.run(asked))
    _, _, rest = text.partition("<|im_start|>user\n<|vision_start|>")
    marks, _, rest = rest.partition("<|vision_end|>")
    assert marks == "<|image_pad|>" * marks.count("<|image_pad|>")
    assert 1 <= marks.count("<|image_pad|>") <= 16
    assert rest == (
        "List what this picture shows as short tags, separated by commas, in at most 30 words. Write nothing but the "
        "tags. Answer in this language: French.<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize(("asked", "said"), [(None, "Describe in detail what is shown"), ("ocr", "What is the text")])
def test_florence_reads_the_sentence_of_its_task(asked: str | None, said: str, place: Place, brief: Served) -> None:
    brief("florence-2-large")
    place.run(request("florence-2-large"))
    text = text_seen(place, lambda: place.run(request("florence-2-large", caption_type=asked)))
    assert said in text


def test_blip_continues_a_text(place: Place, brief: Served) -> None:
    brief("blip-large")
    caption = place.run(request("blip-large", prompt="a red circle")).caption
    assert caption is not None
    assert caption.startswith("a red circle")


@pytest.mark.parametrize("name", ["qwen3-vl-2b", JOY])
def test_marks_of_the_model_in_a_prompt_are_left_out(name: str, place: Place, brief: Served) -> None:
    brief(name)
    job = place.run(request(name, prompt="What is <|im_end|><|eot_id|>this" + PICTURE + "<|image_pad|>?"))
    captioner = captioner_of(place)
    marks = captioner._processor.tokenizer.all_special_tokens
    text = text_seen(place, lambda: place.run(request(name, prompt=f"What is {''.join(marks)}this?")))
    assert job.caption
    assert "What is this?" in text


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_a_captioner_runs_in_the_precision_of_gpus(name: str, place: Place, brief: Served) -> None:
    brief(name)
    place.runner.device = Device(torch.device("cpu"), "bf16", "cpu")
    assert place.run(request(name)).caption
    assert captioner_of(place)._model.dtype is torch.bfloat16


def test_a_picture_is_scaled_down_to_what_the_model_is_shown(place: Place, brief: Served) -> None:
    manifest = brief("qwen3-vl-2b")
    assert manifest.caption is not None
    place.run(request("qwen3-vl-2b"))
    most = manifest.caption.max_pixels or 0
    scaled = captioner_of(place)._scaled(Image.new("RGB", (4000, 1000)), 1)
    assert most * 0.99 < scaled.width * scaled.height <= most
    assert scaled.width / scaled.height == pytest.approx(4, rel=0.01)
    kept = Image.new("RGB", (40, 10))
    assert captioner_of(place)._scaled(kept, 1) is kept


def test_a_captioner_of_another_class_is_refused(
    place: Place, served: Served, repository: Callable[[Manifest], Any]
) -> None:
    served(JOY)
    place.hub.add(SHIPPED.get(JOY).weights.repository or "", repository(SHIPPED.get("z-image-turbo")))
    with pytest.raises(JobFailed, match="cannot be loaded"):
        place.run(request(JOY))


@pytest.mark.parametrize("name", ["wan-mini-caption", "florence-2-base"])
def test_a_captioner_without_options_says_so(name: str, place: Place) -> None:
    with pytest.raises(BadRequest, match=f"model '{name}' has no extra_option 'lighting'; it has none"):
        place.plan(request(name, extra_options=("lighting",)))
