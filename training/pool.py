"""A pool of encoded clips with their tokenised captions, kept on the device and renewed while training goes on."""

from collections.abc import Callable
from random import Random

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from training import codec, layout
from training.captions import Picture, caption, motion_only, pictures
from training.render import render
from training.streams import SceneStream
from training.tokenizer import TEXT_TOKENS

# Captions kept per clip: free sentences, sentences about the still, sentences that name only the motion.
VARIANTS = 3
KINDS: dict[str, Callable[[Picture, Random], str]] = {
    "video": lambda picture, rng: caption(picture, rng).text,
    "still": lambda picture, rng: caption(picture, rng, still=True).text,
    "motion": lambda picture, rng: motion_only(picture, rng).text,
}


class Pool:
    """Clips of one frame size and length as normalised latents [N, 16, T, h, w] with captions of each kind."""

    def __init__(
        self,
        count: int,
        size: tuple[int, int],
        frames: int,
        seed: int,
        vae: AutoencoderKLWan,
        tokenizer: PreTrainedTokenizerFast,
        device: torch.device,
    ) -> None:
        self._vae, self._tokenizer, self._device = vae, tokenizer, device
        self._scenes = SceneStream(size, frames, seed, device, chunk=min(2048, count))
        self._rng = Random(seed)
        self._next = 0
        shape = (layout.LATENT_CHANNELS, (frames - 1) // 4 + 1, size[1] // 8, size[0] // 8)
        self.latents = torch.empty(count, *shape, dtype=torch.bfloat16, device=device)
        self._tokens = {
            kind: torch.empty(count, VARIANTS, TEXT_TOKENS, dtype=torch.int32, device=device) for kind in KINDS
        }
        for filled in range(0, count, 128):
            self.renew(min(128, count - filled))

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def renew(self, count: int) -> None:
        """Replace the oldest `count` clips by fresh ones."""
        count = min(count, len(self.latents) - self._next)
        scenes = self._scenes.take(count)
        span = slice(self._next, self._next + count)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            latents, _ = codec.moments(self._vae, render(scenes, self._device))
        mean, deviation = codec.statistics(self._vae, self._device)
        self.latents[span] = ((latents.float() - mean) / deviation).to(torch.bfloat16)
        told = pictures(scenes)
        for kind, write in KINDS.items():
            texts = [write(picture, self._rng) for picture in told for _ in range(VARIANTS)]
            ids = tokens(self._tokenizer, texts).view(count, VARIANTS, TEXT_TOKENS)
            self._tokens[kind][span] = ids.to(self._device, torch.int32)
        self._next = (self._next + count) % len(self.latents)

    def draw(self, count: int, latent_frames: int, kinds: tuple[str, ...], empty: Tensor) -> tuple[Tensor, Tensor]:
        """Latents [count, 16, latent_frames, h, w] and token ids [count, 48]; one caption in ten is empty."""
        rows = torch.randint(len(self.latents), (count,), device=self._device)
        variants = torch.randint(VARIANTS, (count,), device=self._device)
        choices = torch.stack([self._tokens[kind][rows, variants] for kind in kinds])
        which = torch.randint(len(kinds), (count,), device=self._device)
        ids = choices[which, torch.arange(count, device=self._device)].long()
        dropped = torch.rand(count, 1, device=self._device) < 0.1
        return self.latents[rows, :, :latent_frames].float(), torch.where(dropped, empty, ids)


def tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> Tensor:
    """Token ids [N, 48] as the pipelines make them."""
    encoded = tokenizer(texts, padding="max_length", max_length=TEXT_TOKENS, truncation=True, return_tensors="pt")
    ids: Tensor = encoded.input_ids
    return ids
