"""Preprocess text and images for Qwen's vision models.

The library's processor requires its video part, which needs torchvision. This is its image part,
from the same files: each image is cut into patches, and its placeholder token in the text is
repeated once for each image token.
"""

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, BatchFeature

__all__ = ["QwenProcessor"]

PICTURE = "<|image_pad|>"
TEMPLATE = "chat_template.json"


class QwenProcessor:
    """Called like the library's processor, with texts and their images."""

    def __init__(self, folder: Path) -> None:
        """Read the tokenizer and the image settings in `folder`.

        Raises:
            OSError, ValueError: they are missing or unsupported.
        """
        self.tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        # Always this one, so that results do not depend on whether torchvision is installed.
        self.image_processor = AutoImageProcessor.from_pretrained(folder, local_files_only=True, backend="pil")
        template = folder / TEMPLATE
        if self.tokenizer.chat_template is None and template.is_file():
            self.tokenizer.chat_template = json.loads(template.read_text(encoding="utf-8"))["chat_template"]
        self._picture_id = self.tokenizer.convert_tokens_to_ids(PICTURE)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """Return the conversation as one text."""
        return self.tokenizer.apply_chat_template(conversation, **options)

    def __call__(self, text: list[str], images: Any = None, **options: Any) -> BatchFeature:
        """Return tensors of the texts and, in the order of their placeholders, of the images."""
        seen: dict[str, Any] = {}
        if images:
            pictures = [images] if isinstance(images, Image.Image) else list(images)
            seen = dict(self.image_processor(images=pictures, return_tensors="pt"))
            marks = seen["image_grid_thw"].prod(-1) // self.image_processor.merge_size**2
            text = _with_marks(text, marks.tolist())
        read = self.tokenizer(text, padding=options.get("padding", True), return_tensors="pt")
        kinds = (read["input_ids"] == self._picture_id).to(torch.long)
        tokens = {"input_ids": read["input_ids"], "attention_mask": read["attention_mask"]}
        return BatchFeature({**tokens, "mm_token_type_ids": kinds, **seen})

    def decode(self, tokens: Any, **options: Any) -> str:
        """Return the text of tokens."""
        words: str = self.tokenizer.decode(tokens, **options)
        return words


def _with_marks(texts: list[str], counts: list[int]) -> list[str]:
    left = iter(counts)
    return ["".join(_repeated(text, left)) for text in texts]


def _repeated(text: str, counts: Any) -> Any:
    first, *rest = text.split(PICTURE)
    yield first
    for piece in rest:
        yield PICTURE * next(counts, 0)  # a placeholder without an image comes from the user's text: dropped
        yield piece
