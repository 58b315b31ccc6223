"""Import the large libraries without garbage collection, and without irrelevant log messages.

The imports create a few million permanent objects; garbage collection takes a fifth of the time and frees nothing.
"""

import gc
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

__all__ = ["library_imports"]

EXPECTED: Mapping[str, str] = {
    # diffusers 0.42 looks for classes that torchao 0.18 no longer has. It needs them to unpickle checkpoints, which
    # nothing here does.
    "diffusers.quantizers.torchao.torchao_quantizer": "Unable to import `torchao` Tensor objects",
    # torchao has kernels that only CUDA builds of torch can load, and others in Triton. Of torchao only operations of
    # torch are used.
    "torchao": "Failed to load ",
    "torchao.kernel.intmm": "Detected no triton",
    # torch 2.13 no longer needs a registration that torchao 0.18 makes.
    "torch.utils._pytree": "is an Enum subclass and is now natively supported",
    # diffusers asks transformers for a class that needs torchvision, and gets the one for Pillow.
    "transformers.utils.import_utils": "`CLIPImageProcessor` requires torchvision",
}
"""Harmless log messages of importing diffusers with torchao: a part of each, by logger."""


@contextmanager
def library_imports() -> Iterator[None]:
    """Disable garbage collection in the `with` block, freeze the objects created in it, and log none of `EXPECTED`."""
    with ExitStack() as stack:
        for name, words in EXPECTED.items():
            stack.enter_context(_without(logging.getLogger(name), words))
        gc.disable()
        try:
            yield
        finally:
            gc.freeze()
            gc.enable()


@contextmanager
def _without(logger: logging.Logger, words: str) -> Iterator[None]:
    def wanted(record: logging.LogRecord) -> bool:
        return words not in record.getMessage()

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
