"""Fit the map from latents to RGB that live previews use. `python -m training.latent_rgb`

A linear map with a bias, by least squares: from the normalized latents of clips to what the autoencoder itself decodes
from them, averaged over the pixels and frames that a latent stands for. The clips are rendered from the small world, or
read from a folder of pictures (`--images`, for an autoencoder of real pictures). Seeds are fixed; a second run writes
the same file.
"""

import argparse
import logging
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional

from smallworld import names, world
from smallworld.render import render
from training import codec, layout

SEED = 31_000
CLIPS = 24
"""Of each size."""
PICTURE_SIDE = 256
DIGITS = 4


def rendered(clips: int) -> list[Tensor]:
    """Clips (B, 3, T, H, W) of every size of the small world, in [-1, 1]."""
    return [
        render(world.sample(clips, size, names.DEFAULT_FRAMES, seed=SEED + number), torch.device("cpu"))
        for number, size in enumerate(names.FRAME_SIZES)
    ]


def pictures(folder: Path) -> list[Tensor]:
    """Every PNG, JPEG and WebP of a folder as a clip (1, 3, 1, side, side) in [-1, 1]."""
    files = sorted(file for file in folder.iterdir() if file.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    clips = []
    for file in files:
        with Image.open(file) as picture:
            square = ImageOps.fit(picture.convert("RGB"), (PICTURE_SIDE, PICTURE_SIDE))
        values = torch.from_numpy(np.asarray(square).copy()).float() / 127.5 - 1
        clips.append(values.permute(2, 0, 1)[None, :, None])
    return clips


@torch.no_grad()
def pairs(vae: AutoencoderKLWan, clips: Tensor) -> tuple[Tensor, Tensor]:
    """Latents (n, channels) of clips, normalized as a denoiser's are, and what each decodes to, (n, 3) in [-1, 1]."""
    latents, _ = codec.moments(vae, clips)
    mean, deviation = codec.statistics(vae, clips.device)
    decoded = codec.decode(vae, latents).clamp(-1, 1)
    rows, columns = latents.shape[3:]
    small = functional.adaptive_avg_pool3d(decoded, (decoded.shape[2], rows, columns))
    first, later = small[:, :, :1], small[:, :, 1:]
    # The first latent frame stands for one frame, each later one for several.
    parts = [first]
    if latents.shape[2] > 1:
        parts.append(later.unflatten(2, (latents.shape[2] - 1, -1)).mean(3))
    normalized = (latents - mean) / deviation
    return normalized.movedim(1, -1).flatten(0, -2), torch.cat(parts, 2).movedim(1, -1).flatten(0, -2)


def fit(latents: Tensor, colours: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return factors (channels, 3), bias (3,), and the share of each colour's variance that they explain (3,)."""
    inputs = torch.cat([latents, torch.ones(len(latents), 1)], 1).double()
    targets = colours.double()
    solution = torch.linalg.lstsq(inputs, targets, driver="gelsd").solution
    errors = (inputs @ solution - targets).square().sum(0)
    explained = 1 - errors / (targets - targets.mean(0)).square().sum(0)
    return solution[:-1], solution[-1], explained


def written(name: str, factors: Tensor, bias: Tensor, explained: Tensor) -> str:
    """The map as a TOML file."""
    rows = "\n".join(f"  [{', '.join(f'{value:.{DIGITS}f}' for value in row)}]," for row in factors.tolist())
    shares = ", ".join(f"{share:.3f}" for share in explained.tolist())
    return (
        f"# From the normalized latents of {name} to RGB in -1…1: one row for each channel, then what is added.\n"
        f"# Made by training/latent_rgb.py; it explains {shares} of the variance of red, green and blue.\n"
        f"factors = [\n{rows}\n]\n"
        f"bias = [{', '.join(f'{value:.{DIGITS}f}' for value in bias.tolist())}]\n"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=layout.EMBEDDED / "wan-mini", help="folder of a Wan pipeline")
    parser.add_argument("--images", type=Path, help="folder of pictures; without it, rendered clips")
    parser.add_argument("--out", type=Path, default=Path("manifests/latent_rgb/wan-mini.toml"))
    parser.add_argument("--clips", type=int, default=CLIPS, help="rendered clips of each size")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(SEED)
    vae = AutoencoderKLWan.from_pretrained(options.weights / "vae", local_files_only=True).eval()
    clips = pictures(options.images) if options.images else rendered(options.clips)
    latents, colours = (torch.cat(parts) for parts in zip(*(pairs(vae, each) for each in clips), strict=True))
    factors, bias, explained = fit(latents, colours)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(written(options.out.stem, factors, bias, explained), encoding="utf-8")
    logging.info("%s", options.out.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
