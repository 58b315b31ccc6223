"""Passes are left out of denoisers with fast blocks as of those of diffusers."""

from pathlib import Path

import torch

from tests.engine.families.wan.test_denoiser import in_fp8
from tests.engine.families.wan.test_step_cache import ALWAYS, HARDLY, STEPS, denoised
from tests.fixtures.bench import TWO
from tests.support.loading import context_of
from wan_mcp.engine.families.wan.loader import load_wan


def test_fast_blocks_can_be_left_out_and_run_again(embedded: Path) -> None:
    model = load_wan(context_of(in_fp8(TWO), embedded / TWO, "fp8"))
    assert model.converted
    plain, _ = denoised(model, None)
    assert torch.equal(denoised(model, HARDLY)[0], plain)
    cached, count = denoised(model, ALWAYS)
    assert count.left_out > STEPS
    assert not torch.equal(cached, plain)
    assert torch.equal(denoised(model, None)[0], plain)
