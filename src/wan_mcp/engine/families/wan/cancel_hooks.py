"""How a model's parts, while they work, hear that the job should stop and say how far they are.

Forward hooks only look and count, so results do not change. Whatever one raises passes out of the
pipeline's call, which can be called again afterwards.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from wan_mcp.engine.components.hooks import pre_forward_hook
from wan_mcp.engine.device.device import Device

__all__ = ["Hook", "cancellation_hooks"]


Hook = tuple[Any, Callable[[], None]]
"""A part of a model, and what is called ahead of each of its forward passes."""


@contextmanager
def cancellation_hooks(device: Device, parts: Iterable[Hook], blocks: Iterable[Hook]) -> Iterator[None]:
    """Call what belongs to these parts of a model ahead of their forward passes, and on a CPU ahead of these blocks.

    On a GPU the blocks are left alone: work is only queued there, so that a look between them would come too early.
    """
    with ExitStack() as stack:
        for part, before in (*parts, *(() if device.is_cuda else blocks)):
            stack.enter_context(pre_forward_hook(part, before))
        yield
