"""Prompt embeddings outlive their engine: the text encoder works once for a prompt, whatever happens to the files."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fixtures.bench import MANIFESTS, ONE, TWO, Bench, changed_pipeline, image_plan, video_plan
from wan_mcp.engine.components.hooks import pre_forward_hook
from wan_mcp.engine.components.prompt_cache_files import EmbeddingFiles
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.schema.plans import Plan

CPU = torch.device("cpu")


class Watched:
    """A bench whose text encoder's passes are counted."""

    def __init__(self, bench: Bench, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bench, self._embedded = bench, embedded
        self.passes = 0
        encode = WanModel.encode

        def counted(model: WanModel, text: str) -> Any:
            with pre_forward_hook(model.text_encoder, self._count):
                return encode(model, text)

        monkeypatch.setattr(WanModel, "encode", counted)

    def _count(self) -> None:
        self.passes += 1

    @property
    def files(self) -> list[Path]:
        return sorted((self.bench.settings.home / "embeddings").iterdir())

    def run(self, plan: Plan) -> bytes:
        """The file that a plan makes."""
        return Path(self.bench.run(plan).artifacts[0].path).read_bytes()

    def restart(self, threads: int = 0) -> None:
        """Another engine on the same home."""
        bench = self.bench
        settings = bench.settings.model_copy(update={"threads": threads})
        bench.runner = ModelRunner(settings, bench.catalog, embedded=self._embedded)
        self.passes = 0


@pytest.fixture
def watched(bench: Bench, embedded: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(bench, embedded, monkeypatch)


def test_a_prompt_is_encoded_once_for_all_engines(watched: Watched) -> None:
    first = watched.run(video_plan())
    assert watched.passes == 2, "the prompt and the negative prompt"
    for _ in range(2):
        watched.restart()
        assert watched.run(video_plan()) == first
        assert watched.passes == 0
    watched.run(video_plan(prompt="a blue square"))
    assert watched.passes == 1


def test_a_prompt_is_encoded_again_where_the_number_of_threads_can_give_other_bits(watched: Watched) -> None:
    threads = torch.get_num_threads()
    try:
        watched.run(image_plan())
        watched.restart(threads + 1)
        watched.run(image_plan())
        assert watched.passes == 2
        watched.restart(threads)
        watched.run(image_plan())
        assert watched.passes == 0
    finally:
        torch.set_num_threads(threads)


def test_models_with_the_same_encoder_share_embeddings_and_others_do_not(watched: Watched) -> None:
    bench = watched.bench
    bench.catalog.manifests["tiny-shifted"] = changed_pipeline(MANIFESTS[ONE], flow_shift=5.0).model_copy(
        update={"name": "tiny-shifted"}
    )
    watched.run(image_plan(ONE))
    watched.restart()
    watched.run(image_plan("tiny-shifted"))
    assert watched.passes == 0
    watched.run(image_plan(TWO))
    assert watched.passes == 2
    bench.catalog.manifests[ONE] = changed_pipeline(MANIFESTS[ONE], text_tokens=16)
    watched.run(image_plan(ONE))
    assert watched.passes == 4, "another length in tokens is another embedding"


@pytest.mark.parametrize("damage", ["cut", "flipped", "emptied", "swapped"])
def test_a_damaged_file_is_computed_again_and_said_in_the_log(
    watched: Watched, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = watched.run(image_plan())
    for file in watched.files:
        data = bytearray(file.read_bytes())
        data[-3] ^= 0x40
        spoilt = {"cut": bytes(data[:-9]), "flipped": bytes(data), "emptied": b"", "swapped": b"no safetensors"}
        file.write_bytes(spoilt[damage])
    watched.restart()
    assert watched.run(image_plan()) == first
    assert watched.passes == 2
    assert caplog.text.count("is removed and computed again") == 2
    watched.restart()
    assert watched.run(image_plan()) == first
    assert watched.passes == 0


def test_no_prompt_can_be_read_from_the_files(watched: Watched) -> None:
    watched.run(image_plan())
    assert all(b"circle" not in file.read_bytes() and "circle" not in file.name for file in watched.files)


def some_embedding(dtype: torch.dtype = torch.float32, used: int = 5, seed: int = 0) -> Any:
    numbers = torch.randn(1, 12, 64, generator=torch.Generator().manual_seed(seed)).to(dtype)
    numbers[:, used:] = 0
    return numbers


@pytest.mark.parametrize("used", [0, 1, 5, 12])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_kept_comes_back_to_the_bit(tmp_path: Path, dtype: torch.dtype, used: int) -> None:
    files = EmbeddingFiles(tmp_path)
    files.keep("k", some_embedding(dtype, used))
    found = files.find("k", CPU)
    assert found is not None
    assert found.dtype is dtype
    assert torch.equal(found, some_embedding(dtype, used))
    assert files.find("another", CPU) is None


def test_padding_takes_no_room(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path)
    files.keep("short", some_embedding(used=1))
    files.keep("long", some_embedding(used=12))
    short, long = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("short", "long"))
    assert long - short >= 11 * 64 * 4


@pytest.mark.parametrize("bound", [{"max_files": 3}, {"max_bytes": 5000}])
def test_what_was_not_used_for_the_longest_time_goes_first(tmp_path: Path, bound: dict[str, int]) -> None:
    files = EmbeddingFiles(tmp_path, **bound)
    for number in range(3):
        files.keep(f"k{number}", some_embedding(seed=number))
        os.utime(tmp_path / f"k{number}.safetensors", (number + 1, number + 1))
    assert files.find("k0", CPU) is not None, "a use renews it"
    files.keep("k3", some_embedding(seed=3))
    assert sorted(file.stem for file in tmp_path.iterdir()) == ["k0", "k2", "k3"]


def test_what_a_dead_engine_left_half_written_is_never_read_and_goes(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path)
    (tmp_path / ".k.0123abcd").write_bytes(b"half")
    os.utime(tmp_path / ".k.0123abcd", (1, 1))
    (tmp_path / ".k.just-now").write_bytes(b"half")
    assert files.find("k", CPU) is None
    files.keep("k", some_embedding())
    assert sorted(file.name for file in tmp_path.iterdir()) == [".k.just-now", "k.safetensors"]


def test_a_disk_that_takes_nothing_costs_nothing_but_time(
    mount_disk: Callable[[int], Path], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    disk = mount_disk(16)
    (disk / "fill").write_bytes(b"x" * 12_000)
    files = EmbeddingFiles(disk / "embeddings")
    files.keep("k", some_embedding(used=12).repeat(1, 1, 20))
    assert files.find("k", CPU) is None
    assert "not kept" in caplog.text
    assert not list((disk / "embeddings").iterdir())
    EmbeddingFiles(disk / "embeddings", reserve_bytes=10**15).keep("k", some_embedding())
    assert not list((disk / "embeddings").iterdir())


def test_numbers_that_are_none_are_not_kept(tmp_path: Path) -> None:
    files = EmbeddingFiles(tmp_path / "embeddings")
    files.keep("k", some_embedding() * float("nan"))
    assert files.find("k", CPU) is None
