"""Our processor for Qwen's vision models reads as the library's own does, which needs torchvision."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import Qwen2VLProcessor, Qwen3VLProcessor
from transformers.processing_utils import ProcessorMixin

from tests.support.qwen import CHAT, chat_tokenizer, picture_cutter
from wan_mcp.engine.components.qwen_processor import PICTURE, QwenProcessor

CHAT_OF_TWO = [
    {"role": "user", "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "What changed?"}]}
]


def picture(width: int, height: int) -> Image.Image:
    gradient = Image.radial_gradient("L").resize((width, height))
    return Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    chat_tokenizer().save_pretrained(tmp_path)
    picture_cutter(patch_size=16).save_pretrained(tmp_path)
    return tmp_path


@pytest.mark.parametrize("theirs", [Qwen3VLProcessor, Qwen2VLProcessor])
@pytest.mark.parametrize("more", [[], ["a text without a picture"]])
def test_it_reads_as_the_library_does(
    theirs: Any, more: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: None)
    ours = QwenProcessor(folder)
    other = theirs(
        image_processor=ours.image_processor,
        tokenizer=ours.tokenizer,
        video_processor=SimpleNamespace(merge_size=2, temporal_patch_size=2),
        chat_template=ours.tokenizer.chat_template,
    )
    text = ours.apply_chat_template(CHAT_OF_TWO, tokenize=False, add_generation_prompt=True)
    assert text == other.apply_chat_template(CHAT_OF_TWO, tokenize=False, add_generation_prompt=True)
    pictures = [picture(130, 90), picture(64, 64)]
    read = ours(text=[text, *more], images=pictures, padding=True, return_tensors="pt")
    expected = other(text=[text, *more], images=pictures, padding=True, return_tensors="pt")
    assert set(read) == set(expected)
    assert all(torch.equal(read[key], expected[key]) for key in expected)


def test_a_template_in_a_file_of_its_own_is_read(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text('{"chat_template": "{{ messages[0].content }}!"}', encoding="utf-8")
    read = QwenProcessor(folder).apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert read == "hello!"
    assert CHAT not in read


def test_a_mark_in_somebodys_text_stands_for_no_picture(folder: Path) -> None:
    processor = QwenProcessor(folder)
    read = processor(text=[f"{PICTURE} see {PICTURE} here"], images=[picture(64, 64)])
    marks = int(read["image_grid_thw"].prod()) // 4
    assert int((read["input_ids"] == processor.tokenizer.convert_tokens_to_ids(PICTURE)).sum()) == marks
