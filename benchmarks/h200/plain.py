"""What a user runs with diffusers alone: its pipeline in bf16, four steps, and the video written; its autoencoder."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.h200 import models
from benchmarks.h200.measuring import Sheet, run_section, seconds

STEPS = 4
IMAGE_STEPS = 8


def pipeline(tiny: bool) -> Any:
    """`WanPipeline` with both experts: the same random tensors, which changes no time."""
    from diffusers import UniPCMultistepScheduler, WanPipeline

    expert = models.denoiser(tiny)
    scheduler = UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=12.0)
    pipe = WanPipeline(
        tokenizer=None, text_encoder=None, vae=models.vae(tiny), scheduler=scheduler,
        transformer=expert, transformer_2=expert, boundary_ratio=0.875,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def measure(sheet: Sheet, tiny: bool) -> None:
    """Videos and images from prompt embeddings to files."""
    pipe = pipeline(tiny)
    with TemporaryDirectory() as folder:
        for name, times in (("480p", 2), ("image", 3), ("720p", 1)):
            size = models.shape(name, tiny)
            _, _, text = models.inputs(size, tiny)
            with sheet.part(f"diffusers {name}"):
                run = partial(_image if name == "image" else _video, pipe, text, size, Path(folder))
                row = f"image, {IMAGE_STEPS} steps" if name == "image" else f"video, {STEPS} steps"
                warm_up = 0 if name == "720p" else 1
                sheet.measured(row, models.written(size), "diffusers, bf16", seconds(run, times, warm_up))


def _call(pipe: Any, text: torch.Tensor, size: tuple[int, int, int], steps: int) -> Any:
    height, width, frames = size
    return pipe(
        prompt_embeds=text, height=height, width=width, num_frames=frames, num_inference_steps=steps,
        guidance_scale=1.0, generator=torch.Generator("cpu").manual_seed(0), output_type="np",
    ).frames[0]  # fmt: skip


def _video(pipe: Any, text: torch.Tensor, size: tuple[int, int, int], folder: Path) -> None:
    import imageio_ffmpeg

    frames = (_call(pipe, text, size, STEPS) * 255).round().astype("uint8")
    writer = imageio_ffmpeg.write_frames(
        str(folder / "video.mp4"), (size[1], size[0]), fps=16, codec="libx264", macro_block_size=1,
        output_params=["-preset", "fast", "-crf", "17"],
    )  # fmt: skip
    writer.send(None)
    for frame in frames:
        writer.send(frame.tobytes())
    writer.close()


def _image(pipe: Any, text: torch.Tensor, size: tuple[int, int, int], folder: Path) -> None:
    from PIL import Image

    frames = (_call(pipe, text, size, IMAGE_STEPS) * 255).round().astype("uint8")
    Image.fromarray(frames[0]).save(folder / "image.png")


def autoencoder(sheet: Sheet, tiny: bool) -> None:
    """Decoding, in diffusers and ours, and how far ours is from it."""
    from wan_mcp.engine.vae.chunked import ChunkedVAE

    vae = models.vae(tiny)
    for name in ("480p", "720p"):
        size = models.shape(name, tiny)
        latents = torch.randn(models.latent_shape(size), device=models.device(), dtype=models.dtype())
        with sheet.part(f"decode {name}"):
            eager = partial(vae.decode, latents, return_dict=False)
            ours = partial(_decoded, ChunkedVAE(vae), latents)
            sheet.measured("VAE decode", models.written(size), "ours", seconds(ours, 3))
            sheet.measured("VAE decode", models.written(size), "diffusers, bf16", seconds(eager, 2))
            with torch.no_grad():
                made = torch.cat(ours()).clamp(-1, 1).permute(3, 0, 1, 2)[None]
                apart = (made - eager()[0].float()).square().mean()
            sheet.fact(f"VAE decode {models.written(size)}: PSNR to diffusers in bf16, dB", _decibels(float(apart)))


def _decoded(coders: Any, latents: torch.Tensor) -> list[torch.Tensor]:
    return [part for _, part in coders.decode(latents)]


def _decibels(square: float) -> float:
    import math

    return round(10 * math.log10(4 / max(square, 1e-12)), 2)  # pixels are in -1..1


if __name__ == "__main__":
    run_section(__doc__, {"pipelines": measure, "autoencoder": autoencoder})
