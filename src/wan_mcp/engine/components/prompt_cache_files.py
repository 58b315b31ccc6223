"""Prompt embeddings on disk: a prompt that was encoded once needs no pass through the text encoder after a restart.

Every file is one embedding, named by the hash of everything that its bits depend on; the prompt cannot be recovered
from it. Damaged files are removed and computed again; if the disk is full, embeddings are computed each time.
"""

import hashlib
import logging
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from wan_mcp.files import atomic_file, sweep_stale
from wan_mcp.permissions import make_folder

__all__ = ["EmbeddingFiles"]

log = logging.getLogger(__name__)

MAX_FILES = 4000
MAX_BYTES = 1_000_000_000
"""Enough for about two thousand prompts of a hundred tokens, with 4096 bf16 numbers per token."""
LAYOUT = "1"


class EmbeddingFiles:
    """The embeddings in one folder; several engines may use it at the same time."""

    def __init__(
        self, folder: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES, reserve_bytes: int = 0
    ) -> None:
        """Keep at most `max_files` and `max_bytes`, the most recently used; `reserve_bytes` of the disk stay free."""
        self._folder = folder
        self._most_files = max_files
        self._most_bytes = max_bytes
        self._reserve = reserve_bytes

    def find(self, key: str, device: torch.device) -> Any | None:
        """Return the embedding with this key on `device`, (1, tokens, width), bit-identical, or None."""
        file = self._file(key)
        if not file.exists():
            return None
        try:
            with safe_open(file, framework="pt") as content:
                about, kept = content.metadata() or {}, content.get_tensor("embedding")
            if (about.get("layout"), about.get("sha256")) != (LAYOUT, _sha256(kept)):
                raise ValueError("its content was changed")
            embedding = kept.new_zeros((1, int(about["tokens"]), kept.shape[-1]))
            embedding[:, : kept.shape[1]] = kept
        except FileNotFoundError:  # another engine has just removed it
            return None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError, RuntimeError) as error:
            log.warning("prompt embedding %s is removed and computed again: %s", file.name, error)
            _remove(file)
            return None
        with suppress(OSError):  # it may belong to another user; then its last use is not recorded
            os.utime(file)
        return embedding.to(device)

    def keep(self, key: str, embedding: Any) -> None:
        """Write an embedding, if it has shape (1, tokens, width) and the disk has room."""
        if not torch.isfinite(embedding).all():
            return
        rows = embedding.detach().to("cpu")
        # The padding after the text is zeros, which are not stored.
        used = int(rows[0].ne(0).any(-1).nonzero().amax()) + 1 if rows.any() else 1
        kept = rows[:, :used].clone(memory_format=torch.contiguous_format)
        about = {"layout": LAYOUT, "tokens": str(rows.shape[1]), "sha256": _sha256(kept)}
        try:
            make_folder(self._folder)
            if shutil.disk_usage(self._folder).free - kept.nbytes < self._reserve:
                log.info("prompt embedding not kept: the disk is nearly full")
                return
            with atomic_file(self._file(key), private=True) as fresh:
                save_file({"embedding": kept}, fresh, metadata=about)
            self._shrink()
        except (OSError, SafetensorError) as error:
            log.warning("prompt embedding not kept: %s", error)

    def _file(self, key: str) -> Path:
        return self._folder / f"{key}.safetensors"

    def _shrink(self) -> None:
        """Remove the least recently used files, down to the limits, and files of dead processes."""
        sweep_stale(self._folder)
        found = []
        for entry in os.scandir(self._folder):
            try:
                facts = entry.stat()
            except FileNotFoundError:
                continue
            if not entry.name.startswith("."):
                found.append((facts.st_mtime_ns, facts.st_size, entry.path))
        files, size = len(found), sum(item[1] for item in found)
        for _, its_size, path in sorted(found):
            if files <= self._most_files and size <= self._most_bytes:
                return
            _remove(Path(path))
            files, size = files - 1, size - its_size


def _sha256(tensor: Any) -> str:
    return hashlib.sha256(tensor.contiguous().view(torch.uint8).numpy()).hexdigest()


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s cannot be removed: %s", file, error)
