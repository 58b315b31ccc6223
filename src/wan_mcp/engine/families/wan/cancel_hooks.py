"""How a model's parts, while they work, hear that the job should stop and say how far they are.

Forward hooks only look and count, so results do not change. Whatever `report` raises in one passes
out of the pipeline's call, which can be called again afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from wan_mcp.engine.components.hooks import pre_forward_hook
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.worker.reporter import Reporter

__all__ = ["cancellation_hooks"]


@contextmanager
def cancellation_hooks(model: WanModel, report: Reporter, denoising: Callable[[], None]) -> Iterator[None]:
    """Look for a reason to stop before each block of the denoisers and each frame that the VAE encodes.

    `denoising` is called before each pass of a denoiser. On a GPU the blocks are left alone: work
    is only queued there, so that a look between them would come too early.
    """
    hooks = [(model.vae.encoder, report.check)]
    hooks += [(denoiser, denoising) for denoiser in model.denoisers]
    if not model.device.is_cuda:
        hooks += [(block, report.alive) for denoiser in model.denoisers for block in denoiser.blocks]
    with ExitStack() as stack:
        for part, before in hooks:
            stack.enter_context(pre_forward_hook(part, before))
        yield
