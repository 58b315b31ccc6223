"""A pool of encoded clips with their tokenised captions, kept on the device and renewed while training goes on."""

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F  # noqa: N812
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from smallworld.captions import Picture, caption, motion_only, pictures
from smallworld.render import render
from training import codec, layout
from training.streams import SceneStream
from training.tokenizer import TEXT_TOKENS

# Captions kept per clip: free sentences, sentences about the still, sentences that name only the motion.
VARIANTS = 3
_VISIBLE = 0.05  # of -1..1: less is no part of an object but rounding
KINDS: dict[str, Callable[[Picture, Random], str]] = {
    "video": lambda picture, rng: caption(picture, rng).text,
    "still": lambda picture, rng: caption(picture, rng, still=True).text,
    "motion": lambda picture, rng: motion_only(picture, rng).text,
}


class Pool:
    """Clips of one frame size and length as normalized latents [N, 16, T, h, w] with captions of each kind."""

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        frames: int,
        seed: int,
        vae: AutoencoderKLWan,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
        easy: float = 1.0,
    ) -> None:
        self._vae, self._tokenizer, self._device = vae, tokenizer, device
        self._scenes = SceneStream(size, frames, seed, device, min(2048, count), easy)
        self._rng = Random(seed)
        self._next = 0
        shape = (layout.LATENT_CHANNELS, (frames - 1) // 4 + 1, size[1] // 8, size[0] // 8)
        self.latents = torch.empty(count, *shape, dtype=torch.bfloat16, device=device)
        self.objects = torch.empty(count, 1, *shape[1:], dtype=torch.bool, device=device)
        self._tokens = {
            kind: torch.empty(count, VARIANTS, TEXT_TOKENS, dtype=torch.int32, device=device) for kind in KINDS
        }
        for filled in range(0, count, 128):
            self.renew(min(128, count - filled))

    @torch.no_grad()
    def renew(self, count: int) -> None:
        """Replace the oldest `count` clips by fresh ones."""
        count = min(count, len(self.latents) - self._next)
        scenes = self._scenes.take(count)
        span = slice(self._next, self._next + count)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            clips = render(scenes, self._device)
            latents, _ = codec.moments(self._vae, clips)
        mean, deviation = codec.statistics(self._vae, self._device)
        self.latents[span] = ((latents.float() - mean) / deviation).to(torch.bfloat16)
        self.objects[span] = _shown(clips, scenes.background_rgb.to(self._device))
        told = pictures(scenes)
        for kind, write in KINDS.items():
            texts = [write(picture, self._rng) for picture in told for _ in range(VARIANTS)]
            ids = tokens(self._tokenizer, texts).view(count, VARIANTS, TEXT_TOKENS)
            self._tokens[kind][span] = ids.to(self._device, torch.int32)
        self._next = (self._next + count) % len(self.latents)

    def draw(
        self, count: int, latent_frames: int, kinds: tuple[str, ...], empty: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Latents [count, 16, latent_frames, h, w], where objects are [count, 1, latent_frames, h, w], and token ids
        [count, 48]; one caption in ten is empty."""
        rows = torch.randint(len(self.latents), (count,), device=self._device)
        variants = torch.randint(VARIANTS, (count,), device=self._device)
        choices = torch.stack([self._tokens[kind][rows, variants] for kind in kinds])
        which = torch.randint(len(kinds), (count,), device=self._device)
        ids = choices[which, torch.arange(count, device=self._device)].long()
        dropped = torch.rand(count, 1, device=self._device) < 0.1
        clean, objects = self.latents[rows, :, :latent_frames].float(), self.objects[rows, :, :latent_frames].float()
        return clean, objects, torch.where(dropped, empty, ids)


def _shown(clips: Tensor, background_rgb: Tensor) -> Tensor:
    """Which latents [N, 1, T, h, w] of clips [N, 3, 1 + 4 (T - 1), H, W] hold a part of an object or touch one."""
    background = (background_rgb / 127.5 - 1)[:, :, None, None, None]
    differs = ((clips - background).abs().amax(1, keepdim=True) > _VISIBLE).float()
    # As the VAE does in time: the first frame alone, then four at a time (frames in front repeat the first).
    padded = torch.cat([differs[:, :, :1].expand(-1, -1, 3, -1, -1), differs], 2)
    coarse = F.max_pool3d(padded, (layout.TEMPORAL_FACTOR, layout.SPATIAL_FACTOR, layout.SPATIAL_FACTOR))
    return F.max_pool3d(coarse, (1, 3, 3), stride=1, padding=(0, 1, 1)) > 0


def tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Token ids [N, 48] as the pipelines make them."""
    encoded = tokenizer(texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt")
    ids: Tensor = encoded.input_ids
    return ids
