"""Prompt embeddings, kept between jobs and engines: a repeated prompt costs no pass through the text encoder."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Protocol, Self

import diffusers
import torch
import transformers

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import Installed
from wan_mcp.engine.components.prompt_cache_files import EmbeddingFiles
from wan_mcp.engine.components.text_encoder import storage_of
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.schema.plans import ImagePlan, VideoPlan
from wan_mcp.settings import Settings

__all__ = ["PromptEmbeddings", "TextReader", "note_cut_texts"]

KEPT = 16  # 4 to 8 MB each


class TextReader(Protocol):
    """A loaded model, as far as it reads texts."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""

    @property
    def device(self) -> Device:
        """Where it is."""

    @property
    def weights_sha256(self) -> str:
        """What its weights hold."""

    @property
    def text_encoder(self) -> Any:
        """What reads."""

    def encode(self, text: str) -> Any:
        """The embedding of one text, of shape (1, tokens, width), exactly as the pipeline makes it."""


class PromptEmbeddings:
    """The most recently used embeddings on the device, and many more on disk.

    The key is all that an embedding's bits depend on: the text encoder's weights and how they are
    stored, not those of the whole model, so that models with the same encoder share embeddings;
    the model's family, for each has its own way with an encoder; the text and its length in
    tokens; the device, its precision and the libraries.
    """

    def __init__(
        self, encoder_sha256: str | None = None, files: EmbeddingFiles | None = None, kept: int = KEPT
    ) -> None:
        """`encoder_sha256` is what the text encoder's and tokenizer's files hold; None stands for the whole model's."""
        self._encoder_sha256 = encoder_sha256
        self._files = files
        self._kept = kept
        self._entries: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def kept_in(cls, settings: Settings, weights: Installed) -> Self:
        """The embeddings of a model's text encoder, kept under the home of these settings as well."""
        files = EmbeddingFiles(settings.home / "embeddings", reserve_bytes=settings.min_free_bytes)
        return cls(weights.sha256_of("text_encoder", "tokenizer"), files)

    def of(self, model: TextReader, text: str) -> Any:
        """The embedding of one text, of shape (1, tokens, width), exactly as the pipeline makes it."""
        key = self._key(model, text)
        if key in self._entries:
            self._entries.move_to_end(key)
            return self._entries[key]
        embedding = self._files.find(key, model.device.torch) if self._files is not None else None
        if embedding is None:
            with torch.no_grad():
                embedding = model.encode(text)
            if self._files is not None:
                self._files.keep(key, embedding)
        self._entries[key] = embedding
        if len(self._entries) > self._kept:
            self._entries.popitem(last=False)
        return embedding

    def clear(self) -> None:
        """Forget all that lies on the device, to free its memory."""
        self._entries.clear()

    def _key(self, model: TextReader, text: str) -> str:
        content = {
            "encoder": self._encoder_sha256 or model.weights_sha256,
            "storage": storage_of(model.text_encoder),
            "family": model.manifest.pipeline.family,
            "tokens": model.manifest.pipeline.text_tokens,
            "text": text,
            "device": model.device.description,
            "precision": model.device.precision,
            "versions": [str(torch.__version__), transformers.__version__, diffusers.__version__],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def note_cut_texts(
    plan: VideoPlan | ImagePlan, manifest: Manifest, tokens_of: Callable[[str], int], report: Reporter
) -> None:
    """Note which of a plan's texts are too long to be read whole: the pipelines cut them in silence.

    `tokens_of` counts the tokens of a text.
    """
    most = manifest.pipeline.text_tokens
    for name, text in plan.texts.items():
        tokens = tokens_of(text)
        if tokens > most:
            report.note(f"the {name} has {tokens} tokens and '{plan.model}' reads {most}: the end was left out")
