"""Stage 4: put the trained parts into the package. `python -m training.assemble`

Takes the stages' outputs and writes `src/wan_mcp/embedded/wan-mini` and `wan-mini-caption`, each replaced as a whole.
"""

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from transformers import BlipForConditionalGeneration, UMT5EncoderModel

from training import caption_layout, layout, tokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vae", type=Path, default=Path("build/training/vae/vae"))
    parser.add_argument("--denoiser", type=Path, default=Path("build/training/transformer/wan-mini"))
    parser.add_argument("--captioner", type=Path, default=Path("build/training/captioner/model"))
    parser.add_argument("--into", type=Path, default=layout.EMBEDDED)
    options = parser.parse_args()
    everything = {"local_files_only": True, "dtype": torch.float32}
    layout.publish(
        options.into / "wan-mini",
        layout.pipeline(
            tokenizer.build(),
            layout.as_saved(UMT5EncoderModel.from_pretrained(options.denoiser / "text_encoder", **everything)),
            layout.as_saved(AutoencoderKLWan.from_pretrained(options.vae, **everything)),
            layout.as_saved(WanTransformer3DModel.from_pretrained(options.denoiser / "transformer", **everything)),
        ),
    )
    captioner = BlipForConditionalGeneration.from_pretrained(options.captioner, **everything)
    layout.publish(options.into / "wan-mini-caption", layout.as_saved(captioner), caption_layout.processor())


if __name__ == "__main__":
    main()
