"""Prompt embeddings, kept between jobs: a repeated prompt costs no pass through the text encoder."""

from collections import OrderedDict
from typing import Any

import torch

from wan_mcp.engine.loader import WanModel

__all__ = ["PromptEmbeddings"]

KEPT = 64


class PromptEmbeddings:
    """The most recently used embeddings, on the device.

    The key is the weights' fingerprint, the text and its length in tokens: all that an embedding
    depends on within one engine.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._entries: OrderedDict[tuple[str, str, int], Any] = OrderedDict()

    def of(self, model: WanModel, text: str) -> Any:
        """The embedding of one text, of shape (1, tokens, width), exactly as the pipeline makes it."""
        tokens = model.manifest.pipeline.text_tokens
        key = (model.weights_sha256, text, tokens)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        with torch.no_grad():
            embedding, _ = model.any_pipeline.encode_prompt(
                text, do_classifier_free_guidance=False, max_sequence_length=tokens, device=model.device.torch
            )
        self._entries[key] = embedding
        if len(self._entries) > self._kept:
            self._entries.popitem(last=False)
        return embedding

    def clear(self) -> None:
        """Forget all, to free the device's memory."""
        self._entries.clear()
