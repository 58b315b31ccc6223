"""Import the large libraries without garbage collection, without irrelevant log messages, and not all of each other.

The imports create a few million permanent objects; garbage collection takes a fifth of the time and frees nothing.
diffusers and transformers also import PEFT and parts of SciPy whole, which takes another quarter, for names that they
need for LoRAs, unusual schedulers and training. Those are imported when such a name is used.
"""

import gc
import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

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
LATER: Mapping[str, tuple[str, ...]] = {
    "peft": (),
    "peft.helpers": ("disable_input_dtype_casting",),
    "peft.tuners": (),
    "peft.tuners.tuners_utils": ("BaseTunerLayer",),
    "scipy.integrate": (),
    "scipy.optimize": ("linear_sum_assignment",),
    "scipy.stats": (),
}
"""Modules that are imported later, with the names that the libraries take from them at import: functions, and classes
that they only compare with. Parents come first."""


@contextmanager
def library_imports(*, foreign: bool = False) -> Iterator[None]:
    """Disable garbage collection in the `with` block, freeze the objects created in it, and log none of `EXPECTED`.

    A module of `LATER` that is first imported in the block is a placeholder there. With `foreign`, none is: the code of
    other packages may take any name from them, and derive classes from theirs.
    """
    with ExitStack() as stack:
        for name, words in EXPECTED.items():
            stack.enter_context(_without(logging.getLogger(name), words))
        if not foreign:
            stack.enter_context(_placeholders())
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


@contextmanager
def _placeholders() -> Iterator[None]:
    """Put placeholders into `sys.modules` for those of `LATER` that are neither imported nor missing."""
    put: dict[str, ModuleType] = {}

    def remove() -> None:
        for name, module in put.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]

    try:
        for name, names in LATER.items():
            if name not in sys.modules and (spec := _spec_of(name)) is not None:
                module = put[name] = sys.modules[name] = ModuleType(name)
                module.__spec__, module.__path__ = spec, list(spec.submodule_search_locations or ())
                for each in names:
                    setattr(module, each, _Later(each, (), {"_module": name}))
                module.__dict__["__getattr__"] = _real_attributes(name, remove)
        yield
    finally:
        remove()


def _spec_of(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:  # the package is missing
        return None


def _real_attributes(module: str, remove: Callable[[], None]) -> Callable[[str], Any]:
    """Return a placeholder's `__getattr__`: a name that is not expected ends all placeholders."""

    def attribute(name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        remove()
        return getattr(importlib.import_module(module), name)

    return attribute


class _Later(type):
    """A function or class of a module that is imported when it is called."""

    _module: str

    def __call__(cls, *arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(cls._module), cls.__name__)(*arguments, **options)

    def __instancecheck__(cls, instance: Any) -> bool:
        module = sys.modules.get(cls._module)  # without the module there are no instances
        real = getattr(module, cls.__name__, cls)
        return real is not cls and isinstance(instance, real)
