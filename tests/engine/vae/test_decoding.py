"""Latents to frames with the fast coders, as a job on a GPU has it, here on the CPU."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from tests.fixtures.autoencoders import LAYOUTS
from tests.fixtures.bench import ONE, TWO, TWO_OF_IMAGES
from tests.fixtures.bench import embedded as embedded
from tests.fixtures.bench import load as load
from wan_mcp.engine.families.wan.decode import FrameDecoder
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.vae.chunked import install_fast_coders
from wan_mcp.errors import JobCancelled, JobFailed

Load = Callable[[str], WanModel]


class Told:
    """What a job was told; it can stop at a word."""

    def __init__(self, stop_at: str = "") -> None:
        self.words: list[str] = []
        self._stop_at = stop_at

    def tell(self, words: str) -> None:
        self.words.append(words)
        if words == self._stop_at:
            raise JobCancelled

    def check(self) -> None:
        self.words.append("")


def with_fast_coders(model: WanModel) -> WanModel:
    """The model as it is loaded on a GPU."""
    coders = install_fast_coders(model.vae)
    assert coders is not None
    return replace(model, coders=coders)


def latents_of(model: WanModel, frames: int) -> Any:
    random = torch.Generator().manual_seed(3)
    return torch.randn(1, model.vae.config.z_dim, frames, 4, 6, generator=random)


def frames_of(decoder: FrameDecoder, latents: Any, told: Any = None) -> Any:
    report: Any = told or Told()
    return np.concatenate(list(decoder.frames(latents, report)))


@pytest.mark.parametrize("name", [ONE, TWO])
def test_the_frames_are_those_of_the_pipelines_but_for_rounding(load: Load, name: str) -> None:
    model = load(name)
    latents = latents_of(model, 7)
    plain = frames_of(FrameDecoder(model), latents)
    fast = frames_of(FrameDecoder(with_fast_coders(model)), latents)
    assert fast.dtype == plain.dtype == np.uint8
    assert np.abs(fast.astype(int) - plain).max() <= 1
    assert (fast != plain).mean() < 0.001


def test_the_job_hears_how_far_it_is_only_of_frames_that_it_has(load: Load) -> None:
    told: Any = Told()
    model = with_fast_coders(load(TWO))
    came = 0
    for frames in FrameDecoder(model).frames(latents_of(model, 7), told):
        done = 0 if came == 0 else 1 + (came - 1) // 4
        assert told.words[-1] == f"{done} of 7 latent frames"
        came += len(frames)
    assert came == 25


@pytest.mark.parametrize("fast", [True, False])
def test_a_decode_that_was_stopped_leaves_nothing_to_the_next(load: Load, fast: bool) -> None:
    model = with_fast_coders(load(TWO)) if fast else load(TWO)
    decoder, latents = FrameDecoder(model), latents_of(model, 7)
    whole = frames_of(decoder, latents)
    with pytest.raises(JobCancelled):
        frames_of(decoder, latents, Told("1 of 7 latent frames"))
    assert fast or all(kept is None for kept in model.vae._feat_map)
    assert np.array_equal(frames_of(decoder, latents), whole)


@pytest.mark.parametrize("fast", [True, False])
def test_frames_that_are_not_finite_are_refused(load: Load, fast: bool) -> None:
    model = load(TWO)
    model.vae.decoder.conv_out.bias.data[0] = float("nan")
    with pytest.raises(JobFailed, match="frames contain NaN") as failure:
        frames_of(FrameDecoder(with_fast_coders(model) if fast else model), latents_of(model, 3))
    assert failure.value.code == "bad_numbers"


def test_latents_that_are_not_finite_are_refused(load: Load) -> None:
    model = with_fast_coders(load(TWO))
    latents = latents_of(model, 3)
    latents[0, 0, 2] = float("inf")
    with pytest.raises(JobFailed, match="latents contain NaN"):
        frames_of(FrameDecoder(model), latents)


def test_the_pipelines_encode_pictures_with_the_fast_coders(load: Load) -> None:
    model = load(TWO_OF_IMAGES)
    pictures = torch.randn(1, 3, 17, 32, 48, generator=torch.Generator().manual_seed(4)).clamp(-1, 1)
    pictures[:, :, 1:] = 0
    plain = model.vae.encode(pictures).latent_dist.mode()
    with_fast_coders(model)
    calls: list[Any] = []
    with model.vae.encoder.register_forward_pre_hook(lambda *_: calls.append(1)):
        fast = model.vae.encode(pictures).latent_dist.mode()
        assert not calls
        both = model.vae.encode(torch.cat([pictures, pictures])).latent_dist.mode()  # not ours: two clips
        assert calls
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(both[1:], plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("fast", [True, False])
def test_a_decoder_changes_nothing_of_how_pictures_are_encoded(load: Load, fast: bool) -> None:
    model = with_fast_coders(load(TWO_OF_IMAGES)) if fast else load(TWO_OF_IMAGES)
    before = dict(vars(model.vae))
    frames_of(FrameDecoder(model), latents_of(model, 3))
    assert {name: kept for name, kept in vars(model.vae).items() if callable(kept)} == {
        name: kept for name, kept in before.items() if callable(kept)
    }
    assert ("_encode" in vars(model.vae)) == fast


def test_an_autoencoder_that_the_fast_coders_do_not_understand_is_left_alone() -> None:
    vae = AutoencoderKLWan(**{**LAYOUTS["first generation"], "attn_scales": [1.0]})
    assert install_fast_coders(vae) is None
    assert "_encode" not in vars(vae)
