"""From latents to frames, a few at a time, in a separate stage: later ones are decoded while the first are taken.

On a CPU each latent frame goes through the autoencoder as in the pipelines, bit for bit. On a GPU the coders of
`wan_mcp.engine.vae` take several at once, and frames leave it as bytes.
"""

from collections.abc import Callable, Generator
from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify

from wan_mcp.engine.compat import decoder_features
from wan_mcp.engine.components.numerics import bad_numbers, require_finite
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.parallel.job_ranks import JobRanks
from wan_mcp.engine.vae.chunked import ChunkedVAE
from wan_mcp.engine.vae.shared_decode import SharedDecode
from wan_mcp.engine.worker.reporter import Reporter

__all__ = ["FrameDecoder"]


if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FrameDecoder:
    """The end of a model's pipelines, by the fast coders where the model has them. It changes nothing of the model."""

    def __init__(self, model: WanModel) -> None:
        self._model = model

    def frames(self, latents: Any, report: Reporter, ranks: JobRanks | None = None) -> "Generator[NDArray[np.uint8]]":
        """Yield frames, some of shape (frames, height, width, 3) at a time, from the normalized latents of one result.

        Between them the job reports progress and checks whether it should stop. The job's other ranks, if any, call
        `help_decode` meanwhile.

        Raises:
            JobFailed: the latents or the frames are not finite.
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
            RankLost: another rank stopped, or does not answer.
        """
        require_finite(latents, "latents")
        count, done = int(latents.shape[2]), 0
        coders = self._model.coders
        shared = self._shared(latents, ranks)
        parts = self._as_the_pipelines(latents) if coders is None else self._fast(coders, latents, shared)
        with closing(parts):
            while done < count:
                with ranks.together() if shared is not None and ranks is not None else nullcontext():
                    report.tell(f"{done} of {count} latent frames") if count > 1 else report.check()
                ready, pixels = next(parts)
                done += ready
                if shared is not None and ranks is not None and done == count:
                    ranks.agree()
                yield pixels

    def help_decode(self, latents: Any, ranks: JobRanks, check: Callable[[], None]) -> None:
        """Decode this rank's part of what the first rank's `frames` yields; `check` raises if the rank should stop.

        Raises:
            JobFailed: the frames are not finite.
            RankLost: another rank stopped, or does not answer.
        """
        shared, count, done = self._shared(latents, ranks), int(latents.shape[2]), 0
        if shared is None or self._model.coders is None:
            return
        with closing(self._fast(self._model.coders, latents, shared)) as parts:
            while done < count:
                with ranks.together():
                    check()
                done += next(parts)[0]
            ranks.agree()

    def _shared(self, latents: Any, ranks: JobRanks | None) -> SharedDecode | None:
        """Return how the ranks decode these latents together; None if one rank does it alone.

        Where ranks share only guidance, which is exact, the frames stay those of one device: convolutions of strips
        round differently.
        """
        if ranks is None or ranks.context_size == 1 or self._model.coders is None:
            return None
        shared = SharedDecode(self._model.coders, latents, ranks.group)
        return shared if shared.mine is not None else None

    @torch.no_grad()
    def _as_the_pipelines(self, latents: Any) -> "Generator[tuple[int, NDArray[np.uint8]]]":
        """One latent frame at a time: `AutoencoderKLWan._decode` with its order of operations and precisions."""
        vae, processor = self._model.vae, self._model.any_pipeline.video_processor
        latents = latents.to(vae.device, vae.dtype)
        mean, deviation = (moment.to(vae.dtype) for moment in _moments(vae))
        vae.clear_cache()
        try:
            hidden = vae.post_quant_conv(latents / (1.0 / deviation) + mean)
            for index in range(latents.shape[2]):
                features = decoder_features(vae)
                video = vae.decoder(hidden[:, :, index : index + 1], **features, first_chunk=index == 0)
                if vae.config.patch_size is not None:
                    video = unpatchify(video, patch_size=vae.config.patch_size)
                video = torch.clamp(video, min=-1.0, max=1.0)
                require_finite(video, "frames")
                video = processor.postprocess_video(video, output_type="pt")[0]
                pixels = (video.float() * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
                yield 1, pixels.cpu().contiguous().numpy()
        finally:
            vae.clear_cache()  # a decode that was stopped leaves its features behind

    @torch.no_grad()
    def _fast(
        self, coders: ChunkedVAE, latents: Any, shared: SharedDecode | None
    ) -> "Generator[tuple[int, NDArray[np.uint8]]]":
        """Decode several latent frames at a time, one call ahead of what is yielded."""
        vae = self._model.vae
        mean, deviation = _moments(vae)
        latents = (latents.to(vae.device).float() * deviation + mean).to(vae.dtype)
        ahead: tuple[int, _Landing] | None = None
        strip, most = (None, None) if shared is None else (shared.mine, shared.most)
        for ready, video in coders.decode(latents, strip, most):
            finite = torch.isfinite(video).all()
            pixels = (video.clamp(-1.0, 1.0) * 127.5 + 127.5).round().to(torch.uint8)
            if shared is not None:
                pixels, finite = shared.whole(pixels, finite)
            following = ready, _Landing(pixels, finite)
            if ahead is not None:
                yield ahead[0], ahead[1].frames()
            ahead = following
        if ahead is not None:
            yield ahead[0], ahead[1].frames()


class _Landing:
    """Frames on their way from a GPU."""

    def __init__(self, pixels: Any, finite: Any) -> None:
        pinned = pixels.is_cuda
        self._pixels = torch.empty(pixels.shape, dtype=torch.uint8, pin_memory=pinned)
        self._finite = torch.empty((), dtype=torch.bool, pin_memory=pinned)
        self._pixels.copy_(pixels, non_blocking=True)
        self._finite.copy_(finite, non_blocking=True)
        self._there = torch.cuda.Event() if pinned else None
        if self._there is not None:
            self._there.record()

    def frames(self) -> "NDArray[np.uint8]":
        """Wait for the frames, and return them.

        Raises:
            JobFailed: they were not finite.
        """
        if self._there is not None:
            self._there.synchronize()
        if not self._finite:
            raise bad_numbers("frames")
        frames: NDArray[np.uint8] = self._pixels.numpy()
        return frames


def _moments(vae: Any) -> tuple[Any, Any]:
    """Return mean and deviation of the latents, (1, channels, 1, 1, 1) in float32."""
    shape = (1, vae.config.z_dim, 1, 1, 1)
    mean, deviation = (torch.tensor(m).view(shape) for m in (vae.config.latents_mean, vae.config.latents_std))
    return mean.to(vae.device), deviation.to(vae.device)
