"""Forward hooks on the parts of a model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["pre_forward_hook"]


@contextmanager
def pre_forward_hook(part: Any, before: Callable[[], None]) -> Iterator[None]:
    """Call `before` ahead of each forward pass of `part`."""

    def hook(module: Any, arguments: Any) -> None:
        before()

    handle = part.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()
