"""Random weights of Wan2.2 T2V-A14B on disk, in the layout of its repository."""

from pathlib import Path
from typing import Any

from benchmarks.h200 import models
from benchmarks.real_weights import TEXT_ENCODER, TINY_WAN, write_part, write_rest

__all__ = ["write_a14b"]

STEM = "diffusion_pytorch_model"


def write_a14b(folder: Path, *, tiny: bool) -> None:
    """Both experts, autoencoder and text encoder; the second expert is the first one's files by another name."""
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5Config

    small: dict[str, dict[str, Any]] = models.TINY if tiny else {"transformer": {}, "vae": {}}
    write_part(folder / "transformer", STEM, lambda: WanTransformer3DModel(**models.A14B | small["transformer"]))
    (folder / "transformer_2").mkdir()
    for file in (folder / "transformer").iterdir():
        (folder / "transformer_2" / file.name).hardlink_to(file)
    write_part(folder / "vae", STEM, lambda: AutoencoderKLWan(**models.VAE | small["vae"]))
    encoder = UMT5Config(**TEXT_ENCODER | (TINY_WAN["text_encoder"] if tiny else {}))
    write_rest(folder, encoder, expand_timesteps=False, boundary_ratio=0.875, flow_shift=12.0)
