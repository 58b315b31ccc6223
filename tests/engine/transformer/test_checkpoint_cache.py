"""Converted weights on disk: nothing half-written stays, and nobody loses memory to a write that goes on."""

import threading
from pathlib import Path

import pytest
import torch

from tests.support.patience import PATIENCE_S
from wan_mcp.engine.transformer.checkpoint_cache import WeightsCache
from wan_mcp.files import atomic_folder

BLOCK = {"weight": torch.ones(4, 4)}


def test_what_killed_writers_left_is_removed_and_what_others_write_is_not(tmp_path: Path) -> None:
    dead = tmp_path / ".key.0123456789abcdef.part"
    dead.mkdir()
    (dead / "block-000.safetensors").write_bytes(b"some of it")
    with atomic_folder(tmp_path / "key") as living:
        (living / "block-000.safetensors").write_bytes(b"some of it")
        assert WeightsCache(tmp_path).write("other", [BLOCK], {})
        assert not dead.exists()
    assert (tmp_path / "key" / "block-000.safetensors").exists()


def test_who_lets_a_model_go_can_wait_until_its_weights_are_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    cache = WeightsCache(tmp_path)
    write = cache.write
    monkeypatch.setattr(cache, "write", lambda *what: go.wait(PATIENCE_S) and write(*what))
    cache.keep("key", [BLOCK], {})
    assert cache.find("key") is None
    go.set()
    cache.finish()
    assert cache.find("key") is not None
