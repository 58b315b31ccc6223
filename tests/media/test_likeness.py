"""Figures of how alike two clips are."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from wan_mcp.media import likeness

CLIP = np.random.default_rng(0).integers(0, 256, (4, 24, 40, 3)).astype(np.uint8)


def test_a_clip_is_the_same_as_itself() -> None:
    assert likeness.psnr(CLIP, CLIP) == likeness.SAME_DB
    assert likeness.ssim(CLIP, CLIP) == pytest.approx(1.0)


def test_an_error_of_one_grey_level_everywhere_has_the_ratio_of_the_definition() -> None:
    dark = np.full((2, 16, 16, 3), 100, np.uint8)
    assert likeness.psnr(dark, dark + 1) == pytest.approx(20 * np.log10(255))


def test_the_window_of_similarity_is_the_gaussian_of_its_authors() -> None:
    image = CLIP[0, :, :, 0].astype(np.float64)
    assert likeness._blurred(image) == pytest.approx(gaussian_filter(image, 1.5, truncate=3.5, mode="reflect"))


@pytest.mark.parametrize("noise", [4, 16, 64])
def test_more_noise_is_less_alike(noise: int) -> None:
    offset = np.random.default_rng(1).integers(-noise, noise + 1, CLIP.shape)
    noisy, noisier = (np.clip(CLIP + factor * offset, 0, 255).astype(np.uint8) for factor in (1, 2))
    assert likeness.psnr(noisy, CLIP) > likeness.psnr(noisier, CLIP)
    assert 1 > likeness.ssim(noisy, CLIP) > likeness.ssim(noisier, CLIP) > 0


def test_steady_change_does_not_flicker_and_alternation_does() -> None:
    levels = np.arange(0, 100, 10, dtype=np.uint8)[:, None, None, None]
    steady = np.broadcast_to(levels, (10, 8, 8, 3))
    assert likeness.flicker(steady) == pytest.approx(0)
    assert likeness.flicker(np.where(levels % 20, steady, 0).astype(np.uint8)) > 10
    assert likeness.flicker(steady[:2]) == 0  # there is no change of a change


def test_the_interval_lies_around_the_mean_and_narrows_with_more_values() -> None:
    few, many = likeness.interval([0, 10] * 3), likeness.interval([0, 10] * 100)
    assert few["low"] < few["mean"] == many["mean"] == 5.0 < few["high"]
    assert many["high"] - many["low"] < few["high"] - few["low"]
    assert likeness.interval([7.0]) == {"mean": 7.0, "low": 7.0, "high": 7.0}
