"""Passes of a denoiser that are left out, for jobs of many steps: what its blocks added last is added again.

The first block always runs. If what it adds has hardly changed since the last full pass, the blocks after it are
taken to add what they added then (First Block Cache: https://github.com/chengzeyi/ParaAttention; here that of
diffusers). Each denoiser remembers for itself, and for the passes with and without the prompt apart.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from diffusers.hooks import FirstBlockCacheConfig

from wan_mcp.engine.compat import first_block_cache_state, register_wan_block
from wan_mcp.engine.transformer.fast_blocks import FastBlock
from wan_mcp.schema.plans import StepCache

__all__ = ["PassCount", "step_cache"]

log = logging.getLogger(__name__)

register_wan_block(FastBlock)


@dataclass
class PassCount:
    """How many passes there were, and how many of them ran all blocks."""

    passes: int = 0
    full: int = 0

    @property
    def left_out(self) -> int:
        """Passes of which only the first block ran."""
        return self.passes - self.full


@contextmanager
def step_cache(denoisers: Sequence[Any], config: StepCache | None) -> Iterator[PassCount]:
    """Leave out passes of `denoisers` within the block, as `config` says; None leaves them as they are.

    Use it around the denoising of one result: nothing is remembered from one to the next.
    """
    count = PassCount()
    with ExitStack() as stack:
        if config is not None:
            for denoiser in denoisers:
                stack.enter_context(_cached(denoiser, config, count))
        yield count
    if config is not None:
        log.info("step cache: %d of %d passes left out", count.left_out, count.passes)


@contextmanager
def _cached(denoiser: Any, config: StepCache, count: PassCount) -> Iterator[None]:
    denoiser.enable_cache(FirstBlockCacheConfig(threshold=config.threshold))

    def passed(module: Any, inputs: Any, output: Any) -> None:
        count.passes += 1
        count.full += first_block_cache_state(denoiser).should_compute

    handle = denoiser.register_forward_hook(passed)
    try:
        yield
    finally:
        handle.remove()
        denoiser.disable_cache()
