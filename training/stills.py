"""Stills with their plain captions for the captioner: renders, and renders redrawn by the generator.

A redrawn still starts from a render whose latents were noised to level s < 1 and is denoised by the generator with the
scene's own prompt: it has the generator's habits, and what it shows is still known.
"""

from random import Random

import torch
from diffusers import WanPipeline
from torch import Tensor

from smallworld import names
from smallworld.captions import Picture, Thing, caption, pictures, plain_caption
from smallworld.render import render
from smallworld.world import poses
from training import codec
from training.pool import tokens
from training.streams import SceneStream

_STEPS = 8
_GUIDANCE = 3.0
# A side within this factor of the border between two sizes is not used: its word would be a guess.
_SURE = 1.08


class Stills:
    """Batches of pictures [N, 3, H, W] in -1..1 and sentences about them, from clips seen at one moment each."""

    def __init__(self, size: tuple[int, int], seed: int, device: torch.device, smoke: bool) -> None:
        self._stream = SceneStream(size, names.DEFAULT_FRAMES, seed, device, 32 if smoke else 4096)
        self._rng = Random(seed)
        self._device = device

    def take(self, count: int, first_frame: bool = False) -> tuple[Tensor, list[str], list[Picture]]:
        """`count` stills or a few less; half of them first frames, the others from any moment of the clip."""
        scenes = self._stream.take(count)
        moment = 0 if first_frame or self._rng.random() < 0.5 else self._rng.randrange(1, scenes.frames)
        progress = torch.tensor([moment / (scenes.frames - 1)], device=self._device)
        centre, scale, _ = poses(scenes, progress)
        shown = [
            _now(picture, side, x)
            for picture, side, x in zip(
                pictures(scenes),
                (scenes.side * scale[..., 0] / min(scenes.width, scenes.height)).tolist(),
                centre[:, :, 0, 0].tolist(),
                strict=True,
            )
        ]
        kept = [i for i, picture in enumerate(shown) if picture is not None]
        chosen = [picture for picture in shown if picture is not None]
        clip = render(scenes[torch.tensor(kept, device=self._device)], self._device, only=moment)
        return clip[:, :, 0], [plain_caption(picture) for picture in chosen], chosen


def _now(picture: Picture, sides: list[float], x: list[float]) -> Picture | None:
    """The picture as it is at this moment: sizes as they are now, objects from left to right; None if unsure."""
    things = []
    for thing, side in zip(picture.things, sides, strict=False):
        size = min(names.SIZES, key=lambda name: abs(_ratio(side, names.SIZE_SIDE[name]) - 1))
        others = [_ratio(side, names.SIZE_SIDE[name]) for name in names.SIZES if name != size]
        if min(others) < _ratio(side, names.SIZE_SIDE[size]) * _SURE**2:
            return None
        things.append(Thing(thing.shape, thing.colour, size, None))
    order = sorted(range(len(things)), key=lambda index: x[index])
    return Picture(tuple(things[index] for index in order), picture.background)


def _ratio(a: float, b: float) -> float:
    return max(a / b, b / a)


@torch.no_grad()
def redrawn(pipeline: WanPipeline, clips: Tensor, shown: list[Picture], level: float, rng: Random) -> Tensor:
    """Stills [N, 3, H, W] denoised by the generator from renders noised to `level`."""
    device = clips.device
    mean, deviation = codec.statistics(pipeline.vae, device)
    clean = (codec.moments(pipeline.vae, clips[:, :, None])[0] - mean) / deviation
    latents = (1 - level) * clean + level * torch.randn_like(clean)
    texts = [caption(picture, rng, still=True).text for picture in shown]
    wanted, nothing = (_embedded(pipeline, batch, device) for batch in (texts, [""] * len(texts)))
    uniform = torch.linspace(1, 0, _STEPS + 1, device=device)
    for now, following in zip((level * uniform)[:-1], (level * uniform)[1:], strict=True):
        time = (1000 * now).expand(len(latents))
        flows = [pipeline.transformer(latents, time, text, return_dict=False)[0] for text in (wanted, nothing)]
        latents = latents + (following - now) * (flows[1] + _GUIDANCE * (flows[0] - flows[1]))
    return codec.decode(pipeline.vae, latents * deviation + mean)[:, :, 0].clamp(-1, 1)


def _embedded(pipeline: WanPipeline, texts: list[str], device: torch.device) -> Tensor:
    ids = tokens(pipeline.tokenizer, texts).to(device)
    mask = (ids != 0).long()
    embedded: Tensor = pipeline.text_encoder(ids, mask).last_hidden_state * mask[..., None]
    return embedded
