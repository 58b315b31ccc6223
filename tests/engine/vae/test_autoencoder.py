"""The fast coders give what the autoencoder of diffusers gives, however the frames are shared out."""

from functools import partial
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from tests.fixtures.autoencoders import LAYOUTS, decoded, random_latents, random_pictures, random_vae
from wan_mcp.engine.vae import chunked as fast
from wan_mcp.engine.vae.autoencoder import Decoder, is_supported
from wan_mcp.engine.vae.chunked import ChunkedVAE
from wan_mcp.engine.vae.layers import CausalState

assert_close = partial(torch.testing.assert_close, rtol=1e-4, atol=2e-5)


def theirs(vae: Any, latents: Any) -> Any:
    return vae.decode(latents, return_dict=False)[0][0].permute(1, 2, 3, 0)


@pytest.mark.parametrize("most", [1, 3, 8])
def test_any_number_of_latent_frames_at_once_decodes_alike(
    vae: Any, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = random_latents(vae, 6)
    wanted = theirs(vae, latents)
    monkeypatch.setattr(fast, "latent_frames_per_call", lambda *_: most)
    parts = list(ChunkedVAE(vae).decode(latents))
    assert sum(ready for ready, _ in parts) == 6
    assert max(ready for ready, _ in parts) == min(most, 5)
    assert_close(torch.cat([p for _, p in parts]).clamp(-1, 1), wanted)


def test_a_single_latent_frame_is_a_picture(vae: Any) -> None:
    latents = random_latents(vae, 1)
    assert_close(decoded(vae, latents), theirs(vae, latents))


@pytest.mark.parametrize("most", [1, 8])
def test_a_clip_encodes_alike(vae: Any, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = random_pictures(vae, 21)
    wanted = vae._encode(pictures)
    monkeypatch.setattr(fast, "latent_frames_per_call", lambda *_: most)
    assert_close(ChunkedVAE(vae).encode(pictures), wanted)


@pytest.mark.parametrize("count", [9, 81])
@pytest.mark.parametrize("ends", ["still", "another picture"])
def test_a_picture_and_what_does_not_move_after_it_encodes_alike(count: int, ends: str) -> None:
    vae = random_vae("first generation")
    pictures = random_pictures(vae, count)
    pictures[:, :, 1 : None if ends == "still" else -1] = 0
    assert_close(ChunkedVAE(vae).encode(pictures), vae._encode(pictures))


@pytest.mark.parametrize("layout", ["second generation", "wan-mini"])
def test_stillness_in_the_middle_encodes_alike(layout: str) -> None:
    vae = random_vae(layout)
    pictures = random_pictures(vae, 29)
    pictures[:, :, 6:22] = pictures[:, :, 6:7]
    assert_close(ChunkedVAE(vae).encode(pictures), vae._encode(pictures))


def test_what_does_not_move_is_hardly_computed() -> None:
    vae = random_vae("first generation")
    pictures = random_pictures(vae, 81)
    pictures[:, :, 1:] = 0
    frames: list[int] = []
    plain = torch.nn.functional.conv3d

    def counted(x: Any, *rest: Any) -> Any:
        frames.append(x.shape[2] * x.shape[3] * x.shape[4])
        return plain(x, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv3d", counted)
        coders = ChunkedVAE(vae)
        coders.encode(pictures)
        still = sum(frames)
        frames.clear()
        coders.encode(random_pictures(vae, 81))
    assert still < sum(frames) / 2.5


def test_clips_that_are_decoded_by_turns_do_not_mix() -> None:
    vae = random_vae("first generation")
    decoder = Decoder(vae)
    clips = [random_latents(vae, 3), random_latents(vae, 3).flip(2)]
    runs = [CausalState(), CausalState()]
    parts: list[list[Any]] = [[], []]
    for start, end in ((0, 1), (1, 3)):
        for clip, run, part in zip(clips, runs, parts, strict=True):
            part.append(decoder(clip[0, :, start:end].permute(1, 2, 3, 0).contiguous(), run))
    for clip, part in zip(clips, parts, strict=True):
        assert_close(torch.cat(part).clamp(-1, 1), theirs(vae, clip))


def test_the_autoencoder_itself_still_works_beside_them(vae: Any) -> None:
    latents = random_latents(vae, 3)
    before = theirs(vae, latents)
    decoded(vae, latents)
    assert_close(theirs(vae, latents), before)


def test_the_weights_are_not_kept_twice() -> None:
    vae = random_vae("second generation")
    storages = {parameter.untyped_storage().data_ptr() for parameter in vae.parameters()}
    coders = ChunkedVAE(vae)
    kept = {parameter.untyped_storage().data_ptr() for parameter in vae.parameters()}
    block = coders._decoder._blocks[0]._parts[0]
    used = {conv._weight.untyped_storage().data_ptr() for conv in block._convolutions}
    assert used <= kept
    assert len(kept) == len(storages)


def test_in_bf16_they_are_as_near_to_full_precision_as_the_autoencoder_is(vae: Any) -> None:
    latents = random_latents(vae, 3)
    exact = theirs(vae, latents)
    half = vae.bfloat16()
    given = decoded(half, latents.bfloat16()) - exact
    usual = theirs(half, latents.bfloat16()).float() - exact
    assert given.norm() < 1.1 * usual.norm()


def test_configurations_that_are_not_known_are_left_to_diffusers() -> None:
    assert all(is_supported(random_vae(layout)) for layout in LAYOUTS)
    assert not is_supported(AutoencoderKLWan(**{**LAYOUTS["first generation"], "attn_scales": [1.0]}))
