"""Stage 2: train the denoiser and the text encoder. `python -m training.transformer --vae build/training/vae/vae`

Flow matching (Lipman et al. 2023) as Wan uses it: x_s = (1 - s) x + s n for noise n, the model predicts n - x, the
time is 1000 s. One set of weights learns text -> video, text -> image (one frame) and image -> video (TI2V-5B's way:
the first latent frame is clean and its tokens have time 0).
"""

import argparse
import time
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from smallworld import names, world
from smallworld.render import render
from training import codec, layout, tokenizer
from training.muon import Muon
from training.pool import Pool, tokens
from training.report import Report
from training.steps import Average, Schedule, StepRunner

SEED = 2
MUON_RATE = 2e-3
REFINING_RATE = 0.8  # of the peak rates when going on from trained weights
ADAM_RATE = 1e-3
OBJECT_WEIGHT = 4.0
_SAVE_EVERY_S = 90.0
_RENEWED = 32
_RENEW_EVERY = 10


@dataclass(frozen=True)
class Lesson:
    """One kind of batch: which pool, how many latent frames of it, how often, how large."""

    pool: int
    latent_frames: int
    share: float
    batch: int
    from_image: bool
    kinds: tuple[str, ...]


def lessons() -> list[Lesson]:
    """The mixture. Pools 0-2 hold 17-frame clips, 3-5 33-frame clips, each in the three frame sizes."""
    video, still, image = ("video",), ("still", "still", "video"), ("motion", "video")
    mixture = []
    for size, weight in enumerate((0.6, 0.2, 0.2)):
        mixture += [
            Lesson(size, 5, 0.42 * weight, 256, False, video),
            Lesson(size, 5, 0.15 * weight, 256, True, image),
            Lesson(size + 3, 9, 0.07 * weight, 128, False, video),
            Lesson(size + 3, 9, 0.04 * weight, 128, True, image),
            # Stills are cheap: many more scenes per second teach shapes, colours and how many.
            Lesson(size, 1, 0.20 * weight, 768, False, still),
            Lesson(size, 2, 0.08 * weight, 512, False, video),
        ]
    mixture += [
        Lesson(0, 3, 0.02, 384, False, video),
        Lesson(0, 2, 0.01, 384, True, image),
        Lesson(3, 7, 0.01, 160, False, video),
    ]
    return mixture


class Denoiser(nn.Module):
    """Text encoder and transformer as one module, with the loss of a batch."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.text_encoder = layout.fresh_text_encoder(vocabulary)
        self.transformer = layout.fresh_transformer()

    def loss(
        self,
        clean: Tensor,
        objects: Tensor,
        ids: Tensor,
        noise: Tensor,
        times: Tensor,
        weights: Tensor,
        from_image: bool,
    ) -> Tensor:
        """Squared error of the predicted flow [B, 16, T, h, w] at `times` [B] in 0..1, weighted per channel, and the
        more where objects are [B, 1, T, h, w]."""
        mask = (ids != 0).long()
        # As the pipelines do: padding is zero after the encoder, and attended to.
        text = self.text_encoder(ids, mask).last_hidden_state * mask[..., None]
        sigma = times.view(-1, 1, 1, 1, 1)
        noisy = (1 - sigma) * clean + sigma * noise
        timestep = 1000 * times
        if from_image:
            noisy = torch.cat([clean[:, :, :1], noisy[:, :, 1:]], 2)
            tokens_per_frame = clean.shape[3] * clean.shape[4] // 4
            moving = torch.arange(clean.shape[2] * tokens_per_frame, device=clean.device) >= tokens_per_frame
            timestep = timestep[:, None] * moving
        flow: Tensor = self.transformer(noisy, timestep, text, return_dict=False)[0].float()
        # Most of a clip is plain background. Outlines are settled at little noise, so there the objects weigh more; at
        # much noise such a weight would draw objects where only some of the possible clips have one.
        error = (flow - (noise - clean)).square() * weights * (1 + OBJECT_WEIGHT * (1 - sigma) * objects)
        return (error[:, :, 1:] if from_image else error).mean()


def shifted(uniform: Tensor, shift: float = layout.FLOW_SHIFT) -> Tensor:
    """Noise levels with the sampler's shift: s = k u / (1 + (k - 1) u)."""
    return shift * uniform / (1 + (shift - 1) * uniform)


def train(
    vae: AutoencoderKLWan,
    words: PreTrainedTokenizerFast,
    steps: int,
    limit_s: float,
    device: torch.device,
    smoke: bool,
    report: Report,
    save: Callable[[Denoiser], None],
    start: Path | None = None,
    seed: int = SEED,
    easy: float = 1.0,
) -> None:
    """Train a denoiser, or with `start` (a pipeline's directory) go on from there.

    `save` gets it with averaged weights at the end, and on the way so that a run cut short leaves something.
    """
    torch.manual_seed(seed)
    fast = device.type == "cuda"
    pools = _pools(vae, words, device, smoke, seed, easy)
    report.note(f"pools of {[len(pool.latents) for pool in pools]} clips ready")
    scenes = world.sample(4 if smoke else 32, names.FRAME_SIZES[0], names.DEFAULT_FRAMES, seed=SEED)
    weights = codec.importance(vae, render(scenes, device))
    report.note(f"channel weights {[round(weight, 2) for weight in weights.flatten().tolist()]}")
    model = Denoiser(len(words))
    model.to(device).train()
    if start is not None:
        for name in ("text_encoder", "transformer"):
            part = getattr(model, name)
            saved = type(part).from_pretrained(start / name, local_files_only=True, dtype=torch.float32)
            part.load_state_dict(saved.state_dict())
    # The residual stream stays in float32 under autocast, as it is when the model runs on a CPU.
    model.transformer.patch_embedding.register_forward_hook(lambda module, inputs, output: output.float())
    if fast:
        model.transformer.compile_repeated_blocks(dynamic=True)
    parameters = list(model.parameters())
    hidden = [p for n, p in model.transformer.blocks.named_parameters() if p.ndim == 2]
    chosen = {id(p) for p in hidden}
    muon_rate, adam_rate = torch.zeros((), device=device), torch.zeros((), device=device)
    muon = Muon(hidden, muon_rate, weight_decay=0.02)
    adam = torch.optim.AdamW(
        [p for p in parameters if id(p) not in chosen],
        lr=adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=fast, capturable=fast,
    )  # fmt: skip
    average = Average(parameters, 0.999)

    def step_for(from_image: bool) -> StepRunner:
        def step(clean: Tensor, objects: Tensor, ids: Tensor) -> Tensor:
            noise = torch.randn_like(clean)
            count = clean.shape[0]
            # One draw per equal slice of 0..1: less noise in the loss than independent draws.
            uniform = (torch.rand(count, device=device) + torch.arange(count, device=device)) / count
            adam.zero_grad(set_to_none=True)
            for parameter in hidden:
                parameter.grad = None
            with torch.autocast(device.type, torch.bfloat16, enabled=fast):
                loss = model.loss(clean, objects, ids, noise, shifted(uniform), weights, from_image)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            muon.step()
            adam.step()
            average.update()
            return torch.stack([loss.detach(), norm.detach()])

        return StepRunner(step, device)

    runners = {flag: step_for(flag) for flag in (False, True)}
    empty = tokens(words, [""]).to(device)
    mixture = lessons()
    order = torch.Generator().manual_seed(seed)
    shares = torch.tensor([lesson.share for lesson in mixture])
    schedule = Schedule(steps, limit_s)
    scale = 1.0 if start is None else REFINING_RATE
    saved_at = time.monotonic()
    for index, _ in schedule:
        muon_rate.fill_(scale * schedule.rate(MUON_RATE))
        adam_rate.fill_(scale * schedule.rate(ADAM_RATE))
        lesson = mixture[int(torch.multinomial(shares, 1, generator=order))]
        pool = pools[lesson.pool]
        if index % _RENEW_EVERY == 0:
            pool.renew(2 if smoke else _RENEWED)
        batch = 2 if smoke else lesson.batch
        result = runners[lesson.from_image](*pool.draw(batch, lesson.latent_frames, lesson.kinds, empty))
        if index % 200 == 0:
            loss, norm = result.tolist()
            kind = f"{'image' if lesson.from_image else 'text'}, {lesson.latent_frames} latent frames"
            report.add(kind=kind, step=index, loss=loss, norm=norm)
        if time.monotonic() - saved_at > _SAVE_EVERY_S:
            average.swap()
            save(model)
            average.swap()
            saved_at = time.monotonic()
    report.note(f"{schedule.done} steps of {steps}")
    average.swap()
    save(model)


def _pools(
    vae: AutoencoderKLWan, words: PreTrainedTokenizerFast, device: torch.device, smoke: bool, seed: int, easy: float
) -> list[Pool]:
    counts = (4,) * 6 if smoke else (16384, 6144, 6144, 4096, 2048, 2048)
    frames = (names.DEFAULT_FRAMES, names.LONGEST_FRAMES)
    first_seed = seed * 100
    return [
        Pool(count, names.FRAME_SIZES[i % 3], frames[i // 3], first_seed + i, vae, words, device, easy)
        for i, count in enumerate(counts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("build/training/vae/vae"))
    parser.add_argument("--start", type=Path, help="go on from this pipeline (the recipe's second half)")
    parser.add_argument("--out", type=Path, default=Path("build/training/transformer"))
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--limit-s", type=float, default=500.0, help="finish training within so many seconds")
    parser.add_argument("--seed", type=int, default=SEED, help="another one for every run: other scenes, other noise")
    parser.add_argument("--easy", type=float, default=1.0, help="share kept of scenes without a pair or a ring")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to test the script on a CPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = Report(options.out, "refinement" if options.start else "transformer", device)
    vae = AutoencoderKLWan.from_pretrained(options.vae, local_files_only=True).to(device).eval().requires_grad_(False)
    words = tokenizer.build()

    def save(model: Denoiser) -> None:
        text_encoder, transformer = layout.fresh_text_encoder(len(words)), layout.fresh_transformer()
        text_encoder.load_state_dict(model.text_encoder.state_dict())
        transformer.load_state_dict(model.transformer.state_dict())
        parts = [layout.as_saved(part) for part in (text_encoder, deepcopy(vae), transformer)]
        layout.publish(options.out / "wan-mini", layout.pipeline(words, *parts))

    train(
        vae, words, 6 if options.smoke else options.steps, options.limit_s, device, options.smoke, report, save,
        options.start, options.seed, options.easy,
    )  # fmt: skip
    report.finish()


if __name__ == "__main__":
    main()
