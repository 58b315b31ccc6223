"""What sets the families of image models apart: the pipelines of diffusers that run them, and how these are called."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from wan_mcp.schema.enums import Task

__all__ = ["IMAGE_FAMILIES", "ImageFamily"]


@dataclass(frozen=True)
class ImageFamily:
    """What sets one family apart."""

    pipelines: dict[Task, str]
    """The class of diffusers that does each task."""
    guidance: Callable[[float], dict[str, Any]]
    """A plan's guidance scale as this family's pipelines call it; 1 is none in a plan."""
    tokens: Callable[[Any, str], int]
    """How many of the tokens that a pipeline's text encoder reads, a prompt takes."""
    negative: Callable[[str], str]
    """What stands for a plan's negative prompt, which may be empty."""
    encode: Callable[[Any, str, int], Any] | None = None
    """How a pipeline reads a text, at most so many tokens of it: (1, tokens, width). None if it looks at the picture,
    too."""
    embedded: Callable[[str, Any], dict[str, Any]] = lambda name, embedding: {f"{name}_embeds": embedding}
    """An embedding as an argument of the pipelines; `name` is prompt or negative_prompt."""


def _encode_z_image(pipeline: Any, text: str, tokens: int) -> Any:
    return pipeline.encode_prompt(text, do_classifier_free_guidance=False, max_sequence_length=tokens)[0][0][None]


def _encode(pipeline: Any, text: str, tokens: int) -> Any:
    return pipeline.encode_prompt(text, max_sequence_length=tokens)[0]


def _embedded_qwen(name: str, embedding: Any) -> dict[str, Any]:
    # One text has no padding, which it is to be told.
    mask = torch.ones(embedding.shape[:2], dtype=torch.long, device=embedding.device)
    return {f"{name}_embeds": embedding, f"{name}_embeds_mask": mask}


def _qwen_guidance(scale: float) -> dict[str, Any]:
    return {"true_cfg_scale": scale}


def _blank(text: str) -> str:
    """Return a blank for an empty text, which has no tokens in Qwen-Image; its authors do the same."""
    return text or " "


def _tokens_of_chat(pipeline: Any, text: str) -> int:
    chat = [{"role": "user", "content": text}]
    read = pipeline.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return len(pipeline.tokenizer(read)["input_ids"])


def _tokens_of_template(pipeline: Any, text: str) -> int:
    read = pipeline.prompt_template_encode.format(text)
    return len(pipeline.tokenizer(read)["input_ids"]) - int(pipeline.prompt_template_encode_start_idx)


IMAGE_FAMILIES = {
    "z-image": ImageFamily(
        {Task.TEXT_TO_IMAGE: "ZImagePipeline", Task.IMAGE_TO_IMAGE: "ZImageImg2ImgPipeline"},
        # It adds `guidance_scale` times the difference to the prediction, so that 0 is none.
        guidance=lambda scale: {"guidance_scale": scale - 1},
        tokens=_tokens_of_chat,
        negative=lambda text: text,
        encode=_encode_z_image,
        embedded=lambda name, embedding: {f"{name}_embeds": [embedding[0]]},
    ),
    "flux2-klein": ImageFamily(
        {Task.TEXT_TO_IMAGE: "Flux2KleinPipeline", Task.IMAGE_TO_IMAGE: "Flux2KleinPipeline"},
        guidance=lambda scale: {"guidance_scale": scale},
        tokens=_tokens_of_chat,
        negative=lambda text: "",  # its pipeline takes no other
        encode=_encode,
    ),
    "qwen-image": ImageFamily(
        {Task.TEXT_TO_IMAGE: "QwenImagePipeline", Task.IMAGE_TO_IMAGE: "QwenImageImg2ImgPipeline"},
        guidance=_qwen_guidance,
        tokens=_tokens_of_template,
        negative=_blank,
        encode=_encode,
        embedded=_embedded_qwen,
    ),
    "qwen-image-edit": ImageFamily(
        {Task.IMAGE_TO_IMAGE: "QwenImageEditPlusPipeline"},
        guidance=_qwen_guidance,
        tokens=_tokens_of_template,
        negative=_blank,
    ),
}
