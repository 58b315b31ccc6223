"""What is measured: each section runs on all ranks, first each alone, then all of them together."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.h200 import models
from benchmarks.h200.measuring import Sheet, seconds
from benchmarks.parallel.model import MODEL, RandomModel
from wan_mcp.engine.parallel.context_parallel import context_parallel
from wan_mcp.engine.parallel.job_ranks import JobRanks
from wan_mcp.engine.parallel.rank_group import RankGroup
from wan_mcp.engine.vae.shared_decode import SharedDecode
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan
from wan_mcp.schema.requests import ImageRequest, VideoRequest

__all__ = ["SECTIONS"]

Section = Callable[[Sheet, RankGroup, RandomModel], None]
PROMPT = "a red circle moving left"


def _compared(
    sheet: Sheet, row: str, shape: str, group: RankGroup, alone: list[float], shared: list[float], **more: Any
) -> None:
    """Write a row for one rank and for all, with the ratio of the medians."""
    ratio = round(sorted(alone)[len(alone) // 2] / sorted(shared)[len(shared) // 2], 3)
    sheet.measured(row, shape, "1", alone)
    sheet.measured(row, shape, str(group.size), shared, speed_up=ratio, **more)


def _apart(one: Tensor, other: Tensor) -> float:
    one, other = one.float(), other.float()
    return float(f"{float((one - other).norm() / other.norm()):.3g}")


@torch.no_grad()
def _forward(sheet: Sheet, group: RankGroup, model: RandomModel, name: str, times: int) -> None:
    size = models.shape(name, model.tiny)
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(models.latent_shape(size), generator=random).to(model.device.torch, model.device.dtype)
    text, moment = model.texts.of(None, PROMPT), torch.tensor([800], device=model.device.torch)
    run = partial(model.denoiser.model, latents, moment, text, return_dict=False)
    whole = run()[0]
    alone = seconds(run, times, 0)
    with context_parallel(group):
        first = run()[0]
        shared = seconds(run, times, 0)
        same = bool(torch.equal(run()[0], first))
    alone += seconds(run, 1, 0)
    _compared(
        sheet, "forward", models.written(size), group, alone, shared, same_bits_again=same, apart=_apart(first, whole)
    )


def forwards(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """Forwards of one expert, context parallel."""
    for name, times in (("480p", 4), ("720p", 2), ("image", 8)):
        _forward(sheet, group, model, name, times)


@torch.no_grad()
def profile(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """Which kernels the time of a shared forward goes to."""
    if model.device.torch.type != "cuda":
        return
    size = models.shape("480p", model.tiny)
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(models.latent_shape(size), generator=random).to(model.device.torch, model.device.dtype)
    text, moment = model.texts.of(None, PROMPT), torch.tensor([800], device=model.device.torch)
    run = partial(model.denoiser.model, latents, moment, text, return_dict=False)
    for who, ranks in (("1", None), (str(group.size), group)):
        with context_parallel(ranks):
            run()
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
                run()
                torch.cuda.synchronize()
        took: Counter[str] = Counter()
        for event in found.events():
            took[event.name[:70]] += event.device_time_total / 1e3
        sheet.fact(f"kernels of a forward on {who}, ms", {name: round(ms, 2) for name, ms in took.most_common(24)})


@torch.no_grad()
def decode(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """The VAE's decoder, its frames in strips."""
    for name, times in (("480p", 3), ("720p", 2)):
        size = models.shape(name, model.tiny)
        random = torch.Generator().manual_seed(3)
        latents = torch.randn(models.latent_shape(size), generator=random).to(model.device.torch, model.device.dtype)

        def frames(shared: SharedDecode | None, latents: Tensor = latents) -> Tensor:
            parts = []
            strip, most = (None, None) if shared is None else (shared.mine, shared.most)
            for _, video in model.coders.decode(latents, strip, most):
                pixels = (video.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
                if shared is not None:
                    pixels, _ = shared.whole(pixels, torch.isfinite(video).all())
                parts.append(pixels.cpu())
            return torch.cat(parts)

        whole = frames(None)
        alone = seconds(partial(frames, None), times, 0)
        shared = SharedDecode(model.coders, latents, group)
        joined = frames(shared)
        taken = seconds(partial(frames, shared), times, 0)
        most = int((joined.int() - whole.int()).abs().max())
        differing = float(f"{float((joined != whole).float().mean()):.3g}")
        _compared(
            sheet, "decode", models.written(size), group, alone, taken, largest_difference=most, differing=differing
        )


def _plan(name: str, model: RandomModel, steps: int, guidance: float) -> VideoPlan | ImagePlan:
    height, width, frames = models.shape(name, model.tiny)
    common: dict[str, Any] = {
        "model": MODEL, "prompt": PROMPT, "prompt_asked": PROMPT, "negative_prompt": "blue", "style": None,
        "width": width, "height": height, "steps": steps, "guidance_scale": guidance, "seed": 11, "count": 1,
    }  # fmt: skip
    if name == "image":
        return ImagePlan(**common, task=Task.TEXT_TO_IMAGE)
    return VideoPlan(
        **common,
        task=Task.TEXT_TO_VIDEO,
        fps=16.0,
        num_frames=frames,
        duration_s=frames / 16,
        guidance_scale_2=guidance,
    )


class _Jobs:
    """Jobs on the first rank, through the job table and to files, and what the others do meanwhile."""

    def __init__(self, model: RandomModel, group: RankGroup) -> None:
        self._model, self._group = model, group
        self._settings = model.settings
        self._store = JobStore(Database(self._settings.database)) if group.rank == 0 else None

    def alone(self, plan: VideoPlan | ImagePlan) -> None:
        """Run a job on the first rank; the others wait."""
        if self._store is not None:
            self._run(plan, None)
        self._group.least(1)

    def shared(self, plan: VideoPlan | ImagePlan) -> None:
        """Run a job on all ranks."""
        if self._store is None:
            self._model.runner.help(plan, self._group, lambda: None)
        else:
            self._run(plan, self._group)

    def _run(self, plan: VideoPlan | ImagePlan, group: RankGroup | None) -> None:
        store, runner = self._store, self._model.runner
        assert store is not None
        request = ImageRequest(prompt=PROMPT) if isinstance(plan, ImagePlan) else VideoRequest(prompt=PROMPT)
        store.submit(request, plan, None, 1)
        job = store.claim(self._settings.device)
        assert job is not None
        with Reporter(job, store, self._settings) as report:
            if group is None:
                runner.run(job.id, plan, report)
            else:
                runner.run_shared(job.id, plan, report, group)
        store.finish(job, JobState.SUCCEEDED, caption=None)


def _job(
    sheet: Sheet, group: RankGroup, model: RandomModel, row: str, plan: VideoPlan | ImagePlan, times: int = 1
) -> None:
    jobs = _Jobs(model, group)
    small = plan.model_copy(update={"steps": 1})
    jobs.alone(small)
    jobs.shared(small)
    alone = seconds(partial(jobs.alone, plan), times, 0)
    shared = seconds(partial(jobs.shared, plan), times, 0)
    ranks = JobRanks(group, guidance=plan.guided)
    shape = "x".join(map(str, (plan.height, plan.width, plan.frames)))
    _compared(sheet, row, f"{shape}, {plan.steps} steps", group, alone, shared, **ranks.describe())


def jobs(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """Videos of four steps without guidance, from the claim to the file."""
    for name in ("480p", "720p"):
        _job(sheet, group, model, "job", _plan(name, model, 4, 1.0))


def guided(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """A video with guidance: ten of the forty steps, each of two passes."""
    _job(sheet, group, model, "job with guidance", _plan("480p", model, 2 if model.tiny else 10, 4.0))


def image(sheet: Sheet, group: RankGroup, model: RandomModel) -> None:
    """An image of eight steps, which the policy of `auto` leaves to one GPU."""
    _job(sheet, group, model, "image", _plan("image", model, 8, 1.0), times=3)


SECTIONS: dict[str, Section] = {
    "forwards": forwards,
    "decode": decode,
    "jobs": jobs,
    "guided": guided,
    "image": image,
    "profile": profile,
}
