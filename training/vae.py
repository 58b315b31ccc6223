"""Stage 1: train the VAE on rendered clips. `python -m training.vae --out build/training/vae`

First on crops around the objects, then on whole frames of every size and length. The loss looks hardest at outlines:
with a plain loss the background alone is learnt for a long time, and small stars come out as blobs.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from PIL import Image
from torch import Tensor
from torch.nn import functional

from smallworld import names, world
from smallworld.render import render, to_uint8
from training import codec, layout
from training.fusion import fuse, restore
from training.report import Report
from training.steps import Average, Schedule, StepRunner
from training.streams import SceneStream

SEED = 1
PEAK_RATE = 1.5e-3
KL_WEIGHT = 2e-3
CROP = 64
CROP_SHARE = 0.5


def outline_weights(clips: Tensor, background: Tensor) -> Tensor:
    """Loss weights [B, 1, T, H, W]: 1 on the background, more inside objects, most along outlines."""
    inside = ((clips - background[:, :, None, None, None]).abs().amax(1, keepdim=True) > 0.12).float()
    flat = inside.transpose(1, 2).flatten(0, 1)  # [B * T, 1, H, W]
    band = functional.max_pool2d(flat, 5, 1, 2) + functional.max_pool2d(-flat, 5, 1, 2)
    return 1 + 3 * inside + 8 * torch.unflatten(band, 0, (clips.shape[0], clips.shape[2])).transpose(1, 2)


def losses(vae: AutoencoderKLWan, clips: Tensor, weights: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction (weighted L1, L2 and L1 of the spatial gradient) and KL to a unit Gaussian, both means."""
    mean, log_variance = codec.moments(vae, clips)
    latents = mean.float() + (0.5 * log_variance.float()).exp() * noise
    error = codec.decode(vae, latents).float() - clips
    scale = weights / weights.mean()
    rows = (error[..., 1:, :] - error[..., :-1, :]).abs() * scale[..., 1:, :]
    columns = (error[..., 1:] - error[..., :-1]).abs() * scale[..., 1:]
    rebuilt = (error.abs() * scale).mean() + 2 * (error.square() * scale).mean() + 0.5 * (rows.mean() + columns.mean())
    divergence = 0.5 * (mean.float().square() + log_variance.float().exp() - 1 - log_variance.float()).mean()
    return rebuilt, divergence


def train(steps: int, limit_s: float, device: torch.device, smoke: bool, report: Report) -> AutoencoderKLWan:
    """A trained VAE with averaged weights and its latents' statistics registered."""
    torch.manual_seed(SEED)
    fast = device.type == "cuda"
    torch.backends.cudnn.benchmark = fast
    vae = layout.fresh_vae().to(device).train()
    parameters = list(vae.parameters())
    average = Average(parameters, 0.998)
    rate = torch.tensor(0.0, device=device)
    optimiser = torch.optim.AdamW(
        parameters, lr=rate, betas=(0.9, 0.98), weight_decay=1e-4, fused=fast, capturable=fast
    )
    fuse(vae, compiled=fast)

    def step(clips: Tensor, background: Tensor) -> Tensor:
        weights = outline_weights(clips, background)
        count, _, frames, height, width = clips.shape
        noise = torch.randn((count, layout.LATENT_CHANNELS, (frames + 3) // 4, height // 8, width // 8), device=device)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            rebuilt, divergence = losses(vae, clips, weights, noise)
        (rebuilt + KL_WEIGHT * divergence).backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.update()
        return torch.stack([rebuilt.detach(), divergence.detach(), norm.detach()])

    runner = StepRunner(step, device)
    clips_for = _Clips(device, smoke)
    schedule = Schedule(steps, limit_s)
    for index, progress in schedule:
        rate.fill_(schedule.rate(PEAK_RATE))
        result = runner(*clips_for(index, progress))
        if index % 200 == 0:
            report.add(step=index, **dict(zip(("rebuilt", "kl", "norm"), result.tolist(), strict=True)))
    report.note(f"{schedule.done} steps of {steps}")
    average.swap()
    restore(vae)
    vae.eval().requires_grad_(False)
    _register_statistics(vae, device, smoke)
    return vae


class _Clips:
    """The clips of each step: crops first, then whole frames of every size, some of them long."""

    def __init__(self, device: torch.device, smoke: bool) -> None:
        self._device, self._smoke = device, smoke
        lengths = (5, 9) if smoke else (names.DEFAULT_FRAMES, names.LONGEST_FRAMES)
        self._streams = {
            (size, long): SceneStream(size, lengths[long], SEED + 10 * turn + long, device, 4 if smoke else 2048)
            for turn, size in enumerate(names.FRAME_SIZES)
            for long in (False, True)
        }

    def __call__(self, index: int, progress: float) -> tuple[Tensor, Tensor]:
        """Clips and their background colours for step `index`, `progress` (0..1) into the training."""
        turn = index % 8
        size = names.FRAME_SIZES[(0, 1, 0, 2, 0, 1, 2, 0)[turn]]
        crop = CROP if progress < CROP_SHARE else None
        long = crop is None and turn == 7
        count = 32 if crop else 4 if long else 8
        scenes = self._streams[size, long].take(2 if self._smoke else count)
        return render(scenes, self._device, crop=crop), scenes.background_rgb / 127.5 - 1


@torch.no_grad()
def _register_statistics(vae: AutoencoderKLWan, device: torch.device, smoke: bool) -> None:
    """Measure the latents' mean and deviation per channel over fresh clips and put them into the config."""
    gathered = []
    for index in range(1 if smoke else 24):
        scenes = world.sample(
            4 if smoke else 32, names.FRAME_SIZES[index % 3], names.DEFAULT_FRAMES, seed=77_000 + index
        )
        mean, _ = codec.moments(vae, render(scenes, device))
        gathered.append(mean.float().transpose(0, 1).flatten(1))
    values = torch.cat(gathered, 1)
    vae.register_to_config(
        latents_mean=[round(x, 5) for x in values.mean(1).tolist()],
        latents_std=[round(x, 5) for x in values.std(1).tolist()],
    )


@torch.no_grad()
def quality(vae: AutoencoderKLWan, device: torch.device, smoke: bool = False) -> dict[str, float]:
    """PSNR (dB) and the mean error along outlines (0..255) on fresh clips, by size and length."""
    result = {}
    for size, frames in (
        [(names.FRAME_SIZES[0], 17)] if smoke else [(s, f) for s in names.FRAME_SIZES for f in (17, 33)]
    ):
        scenes = world.sample(4 if smoke else 32, size, frames, seed=99_000)
        clips = render(scenes, device)
        rebuilt = codec.decode(vae, codec.moments(vae, clips)[0]).clamp(-1, 1).float()
        error = (rebuilt - clips) / 2
        weights = outline_weights(clips, (scenes.background_rgb / 127.5 - 1).to(device))
        outline = error.abs().mean(1, keepdim=True)[weights > 8].mean() * 255
        name = f"{size[0]}x{size[1]}x{frames}"
        result[f"psnr_{name}"] = round((-10 * error.square().mean().log10()).item(), 2)
        result[f"psnr_last_frame_{name}"] = round((-10 * error[:, :, -1].square().mean().log10()).item(), 2)
        result[f"outline_error_{name}"] = round(outline.item(), 2)
    return result


@torch.no_grad()
def _picture(vae: AutoencoderKLWan, device: torch.device, path: Path) -> None:
    """Rendered and rebuilt frames, one above the other, to look at."""
    rows = []
    for seed in range(4):
        clips = render(world.sample(12, names.FRAME_SIZES[0], names.DEFAULT_FRAMES, seed=55_000 + seed), device)
        rebuilt = codec.decode(vae, codec.moments(vae, clips)[0])
        frames = (0, 5, 8, 12, 16, 3, 7, 10, 14, 16, 1, 16)
        for part in (clips, rebuilt):
            shown = to_uint8(torch.cat([part[i, :, frame] for i, frame in enumerate(frames)], -1))
            rows.append(shown.permute(1, 2, 0).cpu())
    Image.fromarray(torch.cat(rows).numpy()).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/training/vae"))
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--limit-s", type=float, default=500.0, help="finish training within so many seconds")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to test the script on a CPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = Report(options.out, "vae", device)
    vae = train(3 if options.smoke else options.steps, options.limit_s, device, options.smoke, report)
    vae.save_pretrained(options.out / "vae")
    report.finish(**quality(vae, device, options.smoke))
    if not options.smoke:
        _picture(vae, device, options.out / "vae.png")


if __name__ == "__main__":
    main()
