"""Prompt embeddings cached across jobs and engines: a repeated prompt needs no pass through the text encoder."""

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
    """The text-encoding part of a loaded model."""

    @property
    def manifest(self) -> Manifest:
        """Return the model's manifest."""

    @property
    def device(self) -> Device:
        """Return the model's device."""

    @property
    def weights_sha256(self) -> str:
        """Return the SHA-256 of the weights' content."""

    @property
    def text_encoder(self) -> Any:
        """Return the text encoder."""

    def encode(self, text: str) -> Any:
        """Return the embedding of one text, (1, tokens, width), exactly as the pipeline computes it."""


class PromptEmbeddings:
    """The most recently used embeddings on the device, and many more on disk.

    The key consists of everything that an embedding's bits depend on: the text encoder's weights and
    their storage (not the whole model's, so that models with the same encoder share embeddings); the
    model's family, since families use an encoder differently; the text and its length in tokens; the
    device, its precision and the library versions.
    """

    def __init__(
        self, encoder_sha256: str | None = None, files: EmbeddingFiles | None = None, kept: int = KEPT
    ) -> None:
        """Start empty; `encoder_sha256` covers the text encoder's and tokenizer's files, or is None for all files."""
        self._encoder_sha256 = encoder_sha256
        self._files = files
        self._kept = kept
        self._entries: OrderedDict[str, Any] = OrderedDict()

    @classmethod
    def kept_in(cls, settings: Settings, weights: Installed) -> Self:
        """Create the cache for a model's text encoder, with files in the home folder of these settings."""
        files = EmbeddingFiles(settings.home / "embeddings", reserve_bytes=settings.min_free_bytes)
        return cls(weights.sha256_of("text_encoder", "tokenizer"), files)

    def of(self, model: TextReader, text: str) -> Any:
        """Return the embedding of one text, (1, tokens, width), exactly as the pipeline computes it."""
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
        """Drop all embeddings on the device, to free its memory."""
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
    """Add a note for each of a plan's texts that is too long: the pipelines truncate them silently.

    `tokens_of` counts the tokens of a text.
    """
    most = manifest.pipeline.text_tokens
    for name, text in plan.texts.items():
        tokens = tokens_of(text)
        if tokens > most:
            report.note(f"the {name} has {tokens} tokens, but '{plan.model}' reads {most}: the end was cut off")
