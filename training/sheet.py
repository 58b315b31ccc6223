"""A contact sheet of the published model's samples. `python -m training.sheet`

Fixed prompts, each with its place in the list as seed, nothing picked: what the default settings give is shown. (One
seed for all would show the habits of its noise twelve times.)
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import WanPipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from training import layout, tokenizer

PROMPTS = (
    "a small red star drifts to the left over a navy background",
    "large green ring, growing, white background",
    "a medium blue square spinning on a gray background",
    "a big yellow triangle bounces on teal",
    "a purple circle moves up in front of a sky blue backdrop",
    "a tiny orange diamond slides to the right against black",
    "a pink star that stays still on a brown background",
    "a cyan ring shrinking, black background",
    "a large orange triangle goes down over a white background",
    "a small green square drifts to the right over brown",
    "a red circle and a blue diamond moving right on a white background",
    "a small yellow star and a large purple square on a navy background",
)
SHOWN = (0, 4, 8, 12, 16)
_CAPTION_HEIGHT = 14


def row(frames: NDArray[np.uint8], prompt: str) -> Image.Image:
    """Some frames [T, H, W, 3] of one clip side by side under their prompt."""
    pictures = np.concatenate([frames[index] for index in SHOWN], 1)
    picture = Image.new("RGB", (pictures.shape[1], pictures.shape[0] + _CAPTION_HEIGHT), "white")
    ImageDraw.Draw(picture).text((3, 1), prompt, fill="black")
    picture.paste(Image.fromarray(pictures), (0, _CAPTION_HEIGHT))
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=layout.EMBEDDED / "wan-mini")
    parser.add_argument("--out", type=Path, default=Path("docs/images/wan-mini.png"))
    options = parser.parse_args()
    pipeline = WanPipeline.from_pretrained(options.model, local_files_only=True, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    clips = pipeline(
        list(PROMPTS),
        height=128,
        width=128,
        num_frames=17,
        num_inference_steps=12,
        guidance_scale=3.0,
        max_sequence_length=tokenizer.TEXT_TOKENS,
        generator=[torch.Generator("cpu").manual_seed(number) for number, _ in enumerate(PROMPTS)],
    ).frames
    rows = [row((c * 255).round().astype(np.uint8), p) for c, p in zip(clips, PROMPTS, strict=True)]
    half = (len(rows) + 1) // 2
    width, height = rows[0].size
    sheet = Image.new("RGB", (2 * width + 8, half * (height + 4)), "white")
    for index, picture in enumerate(rows):
        sheet.paste(picture, ((index // half) * (width + 8), (index % half) * (height + 4)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(options.out, optimize=True)


if __name__ == "__main__":
    main()
