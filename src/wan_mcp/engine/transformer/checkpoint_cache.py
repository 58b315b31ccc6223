"""Converted weights on disk: a denoiser that was quantized once loads at the disk's speed.

There is one safetensors file per block and one for the rest, in a folder that gets its name when all are written. A
reader therefore sees a whole denoiser or none, blocks can be read in parallel, and the bf16 weights are not read again.
"""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wan_mcp.engine.transformer.block import BlockKind
from wan_mcp.engine.transformer.weight_store import WeightStore
from wan_mcp.engine.transformer.weights import BlockWeights
from wan_mcp.files import atomic_folder, sweep_stale
from wan_mcp.parsing import parse_json
from wan_mcp.permissions import make_folder
from wan_mcp.text import in_bytes

__all__ = ["CachedDenoiser", "WeightsCache"]

log = logging.getLogger(__name__)

LAYOUT = 1
"""Increase it if the tensors of a block change their names, order or meaning."""
READERS = 4
INDEX = "index.json"
REST = "rest.safetensors"


class CachedDenoiser:
    """One converted denoiser on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._blocks = int(parse_json((folder / INDEX).read_text())["blocks"])

    @property
    def bytes(self) -> int:
        """Return the size on disk."""
        return sum(file.stat().st_size for file in self._folder.glob("*.safetensors"))

    def rest(self, device: torch.device) -> dict[str, Tensor]:
        """Return the tensors outside the blocks, by the names of diffusers."""
        return dict(load_file(self._folder / REST, device=str(device)))

    def blocks(self, kinds: Sequence[BlockKind], weight_store: WeightStore) -> list[BlockWeights]:
        """Return the tensors of the blocks, of these kinds, placed in `weight_store`.

        Raises:
            SafetensorError, OSError: a file cannot be read.
            KeyError, ValueError: a file's content is invalid.
        """
        if len(kinds) != self._blocks:
            raise ValueError(f"{self._blocks} blocks are cached, {len(kinds)} wanted")

        def read(number: int) -> BlockWeights:
            tensors = load_file(self._folder / _name(number), device=str(weight_store.home))
            return weight_store.place(BlockWeights(kinds[number], tensors))

        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(read, range(self._blocks)))


class WeightsCache:
    """All converted denoisers of this home."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[tuple[str, Sequence[Mapping[str, Tensor]], Mapping[str, Tensor]]] = []
        self._writers: list[Thread] = []

    def keep(self, key: str, blocks: Sequence[Mapping[str, Tensor]], rest: Mapping[str, Tensor]) -> None:
        """Have these tensors written after the next `begin`: the copies to main memory would slow the first job."""
        self._waiting.append((key, blocks, rest))

    def begin(self) -> None:
        """Call `write` for what waits, in the background, so that the caller does not wait for the disk."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            writer = Thread(target=self._write_all, args=(waiting,), name="keep-weights", daemon=True)
            self._writers.append(writer)
            writer.start()

    def _write_all(self, waiting: Sequence[tuple[str, Sequence[Mapping[str, Tensor]], Mapping[str, Tensor]]]) -> None:
        for key, blocks, rest in waiting:
            self.write(key, blocks, rest)

    def finish(self) -> None:
        """Write what waits, and wait until it is written: until then, its tensors occupy memory."""
        self.begin()
        for writer in self._writers:
            writer.join()
        self._writers = []

    def find(self, key: str) -> CachedDenoiser | None:
        """Return the denoiser with this key, if it is cached."""
        try:
            return CachedDenoiser(self._folder / key)
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None

    def write(self, key: str, blocks: Sequence[Mapping[str, Tensor]], rest: Mapping[str, Tensor]) -> bool:
        """Write a denoiser; return false if the disk cannot hold it, so that it must be converted again."""
        if self.find(key) is not None:
            return True
        try:
            make_folder(self._folder)
            sweep_stale(self._folder)
            free, needed = shutil.disk_usage(self._folder).free, sum(map(_bytes, _all_tensors(blocks, rest)))
            if needed > free // 2:
                log.info("converted weights not kept: %s, and %s free", in_bytes(needed), in_bytes(free))
                return False
            with atomic_folder(self._folder / key, private=True) as fresh:
                for number, tensors in enumerate(blocks):
                    save_file(_on_cpu(tensors), fresh / _name(number))
                save_file(_on_cpu(rest), fresh / REST)
                (fresh / INDEX).write_text(json.dumps({"layout": LAYOUT, "blocks": len(blocks)}))
        except (OSError, SafetensorError) as error:
            log.warning("converted weights not kept: %s", error)
            return self.find(key) is not None  # another engine may have written it first
        log.info("converted weights kept as %s, %s", key, in_bytes(needed))
        return True

    def set_aside(self, key: str, reason: str) -> None:
        """Remove an unreadable denoiser; it will be converted again from its source."""
        log.warning("converted weights %s are removed: %s", key, reason)
        shutil.rmtree(self._folder / key, ignore_errors=True)


def _name(number: int) -> str:
    return f"block-{number:03}.safetensors"


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    # Copied, because tensors of a state dict may share memory, which the format does not allow.
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _all_tensors(blocks: Sequence[Mapping[str, Tensor]], rest: Mapping[str, Tensor]) -> Iterator[Any]:
    for tensors in (*blocks, rest):
        yield from tensors.values()


def _bytes(tensor: Any) -> int:
    return int(tensor.nbytes)
