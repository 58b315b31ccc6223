"""Which frames go into which call."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from wan_mcp.engine.vae import chunk_size as memory
from wan_mcp.engine.vae.chunk_size import BOUND, latent_frames_per_call
from wan_mcp.engine.vae.chunked import EncodeChunk, encode_chunks


def changes(text: str) -> list[bool]:
    """One letter a picture: a new letter is another picture."""
    return [index == 0 or text[index - 1] != letter for index, letter in enumerate(text)]


@pytest.mark.parametrize(
    ("pictures", "most", "runs"),
    [
        ("a", 4, [EncodeChunk(0, 1, 1)]),
        ("abcde", 4, [EncodeChunk(0, 1, 1), EncodeChunk(1, 4, 4)]),
        ("abcdefghijklm", 2, [EncodeChunk(0, 1, 1), EncodeChunk(1, 8, 8), EncodeChunk(9, 4, 4)]),
        ("a" + "b" * 16, 2, [EncodeChunk(0, 1, 1), EncodeChunk(1, 1, 16)]),
        ("a" + "b" * 15 + "c", 2, [EncodeChunk(0, 1, 1), EncodeChunk(1, 1, 12), EncodeChunk(13, 4, 4)]),
        (
            "a" + "bcde" + "f" * 8 + "ghij",
            8,
            [EncodeChunk(0, 1, 1), EncodeChunk(1, 4, 4), EncodeChunk(5, 1, 8), EncodeChunk(13, 4, 4)],
        ),
        ("a" + "bbbb" + "cccc", 8, [EncodeChunk(0, 1, 1), EncodeChunk(1, 8, 8)]),
    ],
)
def test_like_pictures_go_together_and_others_in_groups_of_four(
    pictures: str, most: int, runs: list[EncodeChunk]
) -> None:
    given = encode_chunks(changes(pictures), most)
    assert given == runs
    assert sum(run.length for run in given) == len(pictures)


def real_size(**values: Any) -> Any:
    """The configuration of the autoencoders of Wan2.1 (and of Wan2.2's 14B models), in bf16."""
    config = {"base_dim": 96, "decoder_base_dim": None, "dim_mult": [1, 2, 4, 4]}
    config["temperal_downsample"] = [False, True, True]
    return SimpleNamespace(
        config=SimpleNamespace(**(config | values)), dtype=torch.bfloat16, device=torch.device("cpu")
    )


def test_larger_frames_go_fewer_at_a_time() -> None:
    at_once = [latent_frames_per_call(real_size(), height, width) for height, width in ((60, 104), (90, 160))]
    assert at_once[0] > at_once[1] > 1


def test_with_little_memory_frames_go_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_free", lambda device: BOUND / 100)
    assert latent_frames_per_call(real_size(), 90, 160) == 1


def test_no_call_is_too_large_for_32_bits() -> None:
    wide = real_size(decoder_base_dim=256)
    for height in (20, 44, 90, 200):
        largest = latent_frames_per_call(wide, height, 80) * 4 * 512 * (8 * height) * (8 * 80)
        assert largest < 2**31 or latent_frames_per_call(wide, height, 80) == 1
