"""Forward hooks through which a running model checks for cancellation and reports progress.

Hooks only observe and count, so results do not change. An exception in a hook propagates from the pipeline's call; the
pipeline can be called again afterwards.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from wan_mcp.engine.device.device import Device

__all__ = ["Hook", "cancellation_hooks", "pre_forward_hook"]

Hook = tuple[Any, Callable[[], None]]
"""A part of a model, and the function to call before each of its forward passes."""


@contextmanager
def pre_forward_hook(part: Any, before: Callable[[], None]) -> Iterator[None]:
    """Call `before` before each forward pass of `part`."""

    def hook(module: Any, arguments: Any) -> None:
        before()

    handle = part.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def cancellation_hooks(device: Device, parts: Iterable[Hook], blocks: Iterable[Hook]) -> Iterator[None]:
    """Call each hook before the forward passes of its part and, on a CPU, of `blocks` as well.

    On a GPU, blocks have no hooks: work is only enqueued there, so a check between two blocks would be too early.
    """
    with ExitStack() as stack:
        for part, before in (*parts, *(() if device.is_cuda else blocks)):
            stack.enter_context(pre_forward_hook(part, before))
        yield
