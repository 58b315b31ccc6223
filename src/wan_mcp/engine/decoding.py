"""From latents to frames, as the pipelines do it at their end, in a stage of its own."""

import itertools
from typing import TYPE_CHECKING, Any

import torch

from wan_mcp.engine.listening import calling
from wan_mcp.engine.loader import WanModel
from wan_mcp.engine.reporter import Reporter
from wan_mcp.errors import JobFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["decode", "require_finite"]


def require_finite(tensor: Any, what: str) -> None:
    """Refuse numbers that no picture can be made of.

    Raises:
        JobFailed: `tensor` holds NaN or infinity.
    """
    if not torch.isfinite(tensor).all():
        raise JobFailed(
            "bad_numbers",
            f"The model's {what} hold numbers that are not finite. "
            "Try another seed or a lower guidance_scale; if it stays so, the weights or the GPU are at fault.",
        )


def decode(model: WanModel, latents: Any, report: Reporter) -> "NDArray[np.uint8]":
    """Frames of shape (frames, height, width, 3) from the normalised latents of one result.

    Each latent frame is one call of the VAE's decoder: there the job says how far it is, and hears
    whether it should stop.

    Raises:
        JobFailed: the latents or the frames are not finite.
        JobCancelled, JobLost, EngineLeaves: from `report`.
    """
    require_finite(latents, "latents")
    vae, pipeline = model.vae, model.any_pipeline
    calls, frames = itertools.count(), latents.shape[2]

    def before() -> None:
        done = next(calls)
        report.tell(f"{done} of {frames} latent frames") if frames > 1 else report.check()

    with torch.no_grad(), calling(vae.decoder, before):
        # Bit for bit what the pipelines compute: their order of operations and precisions.
        latents = latents.to(vae.device, vae.dtype)
        shape = (1, vae.config.z_dim, 1, 1, 1)
        mean = torch.tensor(vae.config.latents_mean).view(shape).to(latents.device, latents.dtype)
        scale = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latents.device, latents.dtype)
        try:
            video = vae.decode(latents / scale + mean, return_dict=False)[0]
        finally:
            vae.clear_cache()  # a decode that was stopped leaves its features behind
        require_finite(video, "frames")
        video = pipeline.video_processor.postprocess_video(video, output_type="pt")[0]
        pixels = (video.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    frames_of_bytes: NDArray[np.uint8] = pixels.cpu().contiguous().numpy()
    return frames_of_bytes
