"""The estimate of the clean latents, for each scheduler in use, and the picture that is made of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.schedulers.scheduling_flow_match_euler_discrete import FlowMatchEulerDiscreteScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from wan_mcp.catalog.latent_rgb import LatentRGB
from wan_mcp.catalog.manifest import Pipeline
from wan_mcp.engine.components.scheduler import fix_noise_levels, scheduler_for
from wan_mcp.engine.components.step_previews import rgb_frames, step_previews

SAME = LatentRGB(factors=((1, 0, 0), (0, 1, 0), (0, 0, 1)))
SIZE = (32, 16)


class Watcher:
    """A job's reporter and its previews in one: always due; keeps what it is shown."""

    def __init__(self, *, due: bool = True) -> None:
        self.shown: list[Any] = []
        self.asked = 0
        self.stopped = False
        self.notes: list[str] = []
        self.previews = self
        self._due = due

    def due(self) -> bool:
        self.asked += 1
        return self._due and not self.stopped

    def show(self, frames: Any, size: tuple[int, int], cost_s: float) -> None:
        assert size == SIZE and cost_s >= 0
        self.shown.append(frames)

    def stop(self) -> None:
        self.stopped = True

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


def unipc() -> Any:
    return scheduler_for(Pipeline(family="wan", scheduler="unipc", flow_shift=5.0), UniPCMultistepScheduler())


def euler() -> Any:
    return scheduler_for(Pipeline(family="wan", scheduler="euler", flow_shift=3.0), UniPCMultistepScheduler())


def stochastic() -> Any:
    return FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)


def dynamic() -> Any:
    """As Flux and Qwen-Image ship it: its shift follows the size."""
    return FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True, shift=3.0)


def distilled(kind: str) -> Any:
    pipeline = Pipeline(family="wan", scheduler=kind, sigmas=(1.0, 0.9375, 0.8333, 0.625))
    scheduler = scheduler_for(pipeline, UniPCMultistepScheduler())
    fix_noise_levels(scheduler, pipeline.sigmas)
    return scheduler


SCHEDULERS: dict[str, Callable[[], Any]] = {
    "unipc": unipc,
    "euler": euler,
    "stochastic euler": stochastic,
    "dynamic shift": dynamic,
    "distilled unipc": lambda: distilled("unipc"),
    "distilled euler": lambda: distilled("euler"),
}


def denoised(scheduler: Any, clean: Any, previews: Watcher, rgb: LatentRGB | None = SAME, steps: int = 4) -> Any:
    """The latents after the steps of a model that knows the clean ones exactly."""
    more = {"mu": 1.0} if scheduler.config.get("use_dynamic_shifting") else {}
    scheduler.set_timesteps(steps, device="cpu", **more)
    latents = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noise = torch.Generator().manual_seed(2)
    options = {"generator": noise} if "generator" in scheduler.step.__code__.co_varnames else {}
    with step_previews(scheduler, rgb, previews, SIZE) as show:  # type: ignore[arg-type]
        for index, timestep in enumerate(scheduler.timesteps):
            sigma = scheduler.sigmas[index]
            velocity = (latents - clean) / sigma
            latents = scheduler.step(velocity, timestep, latents, return_dict=False, **options)[0]
            show()
    return latents


@pytest.mark.parametrize("name", SCHEDULERS)
def test_an_exact_model_shows_the_clean_picture_at_every_step(name: str) -> None:
    clean = torch.empty(1, 3, 5, 2, 4)
    for frame in range(5):
        clean[0, :, frame] = torch.tensor([-1.0, 0.0, frame / 4])[:, None, None]
    previews = Watcher()
    latents = denoised(SCHEDULERS[name](), clean, previews)
    torch.testing.assert_close(latents, clean, atol=1e-3, rtol=0)
    assert len(previews.shown) == 4
    for frames in previews.shown:
        assert frames.shape == (4, 2, 4, 3)
        for frame, of in zip(frames, (0, 1, 3, 4), strict=True):
            assert abs(frame.astype(int) - [0, 128, round(of / 4 * 127.5 + 127.5)]).max() <= 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_looking_changes_no_bit_of_the_latents(name: str) -> None:
    clean = torch.rand((1, 3, 2, 2, 4), generator=torch.Generator().manual_seed(3)) * 2 - 1
    watched = denoised(SCHEDULERS[name](), clean, Watcher())
    assert torch.equal(watched, denoised(SCHEDULERS[name](), clean, Watcher(due=False)))
    assert torch.equal(watched, denoised(SCHEDULERS[name](), clean, Watcher(), None))


def test_a_scheduler_is_as_it_was_when_a_job_has_ended() -> None:
    scheduler = unipc()
    clean = torch.zeros(1, 3, 1, 2, 4)
    denoised(scheduler, clean, Watcher())
    assert "step" not in vars(scheduler)
    with (
        pytest.raises(RuntimeError),
        step_previews(scheduler, SAME, Watcher(), SIZE),  # type: ignore[arg-type]
    ):
        raise RuntimeError
    assert "step" not in vars(scheduler)


def test_a_model_that_predicts_noise_is_not_misread() -> None:
    previews = Watcher()
    scheduler = UniPCMultistepScheduler(prediction_type="epsilon")
    with step_previews(scheduler, SAME, previews, SIZE) as show:  # type: ignore[arg-type]
        assert "step" not in vars(scheduler)
        show()
    assert not previews.shown and not previews.asked


def test_a_map_for_other_channels_ends_the_previews_and_not_the_job() -> None:
    previews = Watcher()
    clean = torch.zeros(1, 4, 1, 2, 4)
    torch.testing.assert_close(denoised(euler(), clean, previews), clean, atol=1e-3, rtol=0)
    assert previews.stopped and not previews.shown
    assert previews.notes == ["there is no preview: the latents have 4 channels, the latent_rgb map is for 3"]


@pytest.mark.parametrize(
    ("shape", "picture"),
    [
        ((1, 3, 2, 4), (1, 2, 4, 3)),
        ((1, 8, 3), (1, 2, 4, 3)),
        ((1, 3, 1, 2, 4), (1, 2, 4, 3)),
        ((1, 3, 3, 2, 4), (3, 2, 4, 3)),
        ((1, 3, 21, 2, 4), (4, 2, 4, 3)),
    ],
)
def test_latents_of_each_family_become_pictures(shape: tuple[int, ...], picture: tuple[int, ...]) -> None:
    latents = torch.zeros(shape)
    assert rgb_frames(latents, latents, 1.0, SAME, SIZE).shape == picture


def test_frames_that_are_given_are_left_out() -> None:
    latents = torch.zeros(1, 3, 5, 1, 1)
    latents[:, :, 0] = 1.0
    assert rgb_frames(latents, torch.zeros_like(latents), 1.0, SAME, SIZE)[0].max() == 255
    assert rgb_frames(latents, torch.zeros_like(latents), 1.0, SAME, SIZE, leave_out=1).max() == 128


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_numbers_that_are_none_become_black(dtype: torch.dtype) -> None:
    latents = torch.full((1, 3, 1, 2, 2), float("nan"), dtype=dtype)
    assert rgb_frames(latents, latents, 0.5, SAME, SIZE).max() == 0
