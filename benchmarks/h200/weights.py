"""Random weights of Wan2.2 T2V-A14B on disk, in the layout of its repository."""

import json
from pathlib import Path
from typing import Any

from benchmarks.h200 import models
from benchmarks.real_weights import TEXT_ENCODER, TINY_WAN, write_part
from wan_mcp.engine.weights import EMBEDDED

__all__ = ["write_a14b"]

STEM = "diffusion_pytorch_model"


def write_a14b(folder: Path, *, tiny: bool) -> None:
    """Both experts, autoencoder and text encoder; the second expert is the first one's files by another name."""
    from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
    from transformers import AutoTokenizer, UMT5Config, UMT5EncoderModel

    small: dict[str, dict[str, Any]] = models.TINY if tiny else {"transformer": {}, "vae": {}}
    write_part(folder / "transformer", STEM, lambda: WanTransformer3DModel(**models.A14B | small["transformer"]))
    (folder / "transformer_2").mkdir()
    for file in (folder / "transformer").iterdir():
        (folder / "transformer_2" / file.name).hardlink_to(file)
    write_part(folder / "vae", STEM, lambda: AutoencoderKLWan(**models.VAE | small["vae"]))
    encoder = UMT5Config(**TEXT_ENCODER | (TINY_WAN["text_encoder"] if tiny else {}))
    write_part(folder / "text_encoder", "model", lambda: UMT5EncoderModel(encoder))
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED / "wan-mini" / "tokenizer", local_files_only=True)
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=12.0)
    scheduler.save_pretrained(folder / "scheduler")
    parts = {
        "_class_name": WanPipeline.__name__,
        "expand_timesteps": False,
        "boundary_ratio": 0.875,
        "scheduler": ["diffusers", "UniPCMultistepScheduler"],
        "text_encoder": ["transformers", "UMT5EncoderModel"],
        "tokenizer": ["transformers", type(tokenizer).__name__],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "transformer_2": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    (folder / "model_index.json").write_text(json.dumps(parts), encoding="utf-8")
