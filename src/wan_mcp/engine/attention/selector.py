"""Which kernels a device's attention goes through: the quickest first, each after a trial, each with one to fall to."""

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache, partial
from typing import Any, TypeVar, get_args

import torch
from torch import Tensor

from wan_mcp.engine.attention.accuracy import AttentionAccuracy, FusedAccuracy
from wan_mcp.engine.attention.block_router import Grid
from wan_mcp.engine.attention.block_sparse import BlockKernel, CudnnBlocks, DenseSage, TorchBlocks, attend_sparsely
from wan_mcp.engine.attention.cudnn_fp8 import CudnnFp8
from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.attention.sdpa import ANY, TORCH_KERNELS, FusedKernel, Kernel, TorchKernel
from wan_mcp.errors import JobFailed
from wan_mcp.schema.enums import AttentionKernel, FP8Attention
from wan_mcp.text import first_line

__all__ = [
    "AUTO",
    "KERNEL_NAMES",
    "Attention",
    "attention_in_use",
    "attention_of",
    "choose_attention",
    "sparse_attention_of",
]

log = logging.getLogger(__name__)
T = TypeVar("T")

AUTO = "auto"
FP8_KERNELS: tuple[str, ...] = get_args(FP8Attention)
KERNEL_NAMES: tuple[str, ...] = get_args(AttentionKernel)
"""The names that `choose_attention` takes beside `auto`."""
FP8_LIMIT, LIMIT = 0.04, 0.01
"""How far a kernel in 8 bits, and any other, may be off in its trial: twice what sound ones are and more."""
HEAD_WIDTH = 128
"""Of every Wan model but our own small one."""


class Attention:
    """Self- or cross-attention on one device, by kernels that passed their trials."""

    def __init__(self, kernels: list[Kernel], head_dim: int = HEAD_WIDTH, joined: FusedKernel | None = None) -> None:
        """`kernels` come best first and proved themselves with this width of heads; the last takes everything.

        `joined` is that one of them, if any, which also proved itself with all around it in few passes.
        """
        self._kernels = kernels
        self._head_width = head_dim
        self._joined = joined
        self._refused: set[tuple[str, torch.Size]] = set()

    @property
    def name(self) -> str:
        """The best kernel, that of long sequences, and whether it is joined with what is around it: other bits."""
        return self._kernels[0].name + (", joined" if self._joined is not None else "")

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""
        for kernel in self._proved_for(query, key):
            made = self._attempt(kernel.name, query, partial(kernel, query, key, value))
            if made is not None:
                return made
        return self._kernels[-1](query, key, value)

    def joined(self, joined: QKVProjection) -> tuple[Tensor, Tensor] | None:
        """Self-attention from the product before it to rows of the next one, see `FusedKernel.attend_fused`.

        None where the kernel for this shape is another, or has failed: then it takes three steps.
        """
        query, kernel, name = joined.part(0), self._joined, f"{self.name},"
        if kernel is None or (name, query.shape) in self._refused:
            return None
        if next(self._proved_for(query, query), None) is not kernel:
            return None
        return self._attempt(name, query, partial(kernel.attend_fused, joined))

    def _proved_for(self, query: Tensor, key: Tensor) -> Iterator[Kernel]:
        """The kernels for these shapes, best first, without the last."""
        for kernel in self._kernels[:-1] if query.shape[-1] == self._head_width else []:
            if (kernel.name, query.shape) not in self._refused and kernel.supports(query, key):
                yield kernel

    def _attempt(self, name: str, query: Tensor, compute: Callable[[], T]) -> T | None:
        """What is computed; None where that failed, and it is not asked again for this shape."""
        try:
            with _on(query.device):
                return compute()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a kernel from outside may raise anything, and another can do its work
            self._refused.add((name, query.shape))
            log.warning("attention by %s does not take %s: %s", name, list(query.shape), first_line(error))
            return None


_IN_USE: dict[torch.device, Attention] = {}
_TRIED: dict[tuple[torch.device, str, int], Kernel | None] = {}
_TRIED_JOINED: dict[tuple[torch.device, int], FusedKernel | None] = {}


def choose_attention(
    device: torch.device, force: str = AUTO, head_dim: int = HEAD_WIDTH, *, eight_bits: bool = True
) -> Attention:
    """Find the kernels for a device and use them from now on in this process; each is tried once.

    Args:
        device: where the denoisers run.
        force: a name of `KERNEL_NAMES` to use that kernel wherever it can be used.
        head_dim: of the denoisers that will run; heads of other widths go through what torch chooses.
        eight_bits: whether kernels in FP8 may be used without being forced.

    Raises:
        JobFailed: `force` names no kernel, or one that does not work here.
    """
    if force != AUTO and force not in KERNEL_NAMES:
        raise JobFailed("bad_setting", f"Attention {force!r} is none of {AUTO}, {', '.join(KERNEL_NAMES)}.")
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # as tensors say it
    kernels: list[Kernel] = []
    if device.type == "cuda" and force != ANY:
        in_fp8 = [name for name in FP8_KERNELS if force == name or (force == AUTO and eight_bits)]
        in_sixteen_bits = sorted(TORCH_KERNELS, key=lambda name: name != force)
        for names in (in_fp8, in_sixteen_bits):  # for long sequences, and for all others
            passed = (kernel for name in names if (kernel := kernel_of(device, name, head_dim)) is not None)
            kernels += [kernel for kernel in (next(passed, None),) if kernel is not None]
    kernels.append(TorchKernel(ANY))
    if force not in (AUTO, *(kernel.name for kernel in kernels)):
        raise JobFailed(
            "no_attention", f"Attention by {force} does not work on {device}; the log says why. Use {AUTO}."
        )
    attention = _IN_USE[device] = Attention(kernels, head_dim, _joined_of(device, kernels[0], head_dim))
    log.info("attention on %s: %s", device, " > ".join(kernel.name for kernel in kernels))
    return attention


def attention_of(device: torch.device) -> Attention:
    """What was chosen for a device; torch's own choice where nothing was."""
    return _IN_USE.get(device, _ANY)


def attention_in_use(device: torch.device | None = None) -> str:
    """The name of the kernel that long self-attention goes through on a device, for receipts and logs.

    Without a device: on the one that was chosen for last.
    """
    if device is None:
        device = next(reversed(_IN_USE), torch.device("cpu"))
    return attention_of(device).name


_ANY = Attention([TorchKernel(ANY)])


def kernel_of(device: torch.device, name: str, head_dim: int = HEAD_WIDTH) -> Kernel | None:
    """The kernel of that name, if it can be had here and is exact enough with this width of heads; tried once."""
    key = (device, name, head_dim)
    if key not in _TRIED:
        _TRIED[key] = _try(device, name, head_dim)
    return _TRIED[key]


def _try(device: torch.device, name: str, head_dim: int) -> Kernel | None:
    others = (_TRIED.get((device, name, width)) for width in (64, 128))
    kernel = next((one for one in others if one is not None), None) or _unless_it_fails(
        device, name, partial(_maker(name), device)
    )
    if kernel is None:
        return None
    if head_dim not in kernel.widths:
        log.info("no attention by %s with heads of %d channels", name, head_dim)
        return None
    limit = FP8_LIMIT if name in FP8_KERNELS else LIMIT
    exact = _is_exact(device, name, head_dim, limit, lambda: AttentionAccuracy.of(device, head_dim).error(kernel))
    return kernel if exact else None


def _joined_of(device: torch.device, kernel: Kernel, head_dim: int) -> FusedKernel | None:
    """The kernel again, if it also does with all around it in few passes and is exact enough so; tried once."""
    if not isinstance(kernel, CudnnFp8):
        return None
    key = (device, head_dim)
    if key not in _TRIED_JOINED:
        exact = _is_exact(
            device, f"{kernel.name}, joined", head_dim, FP8_LIMIT,
            lambda: FusedAccuracy.of(device, head_dim).error(kernel.attend_fused),
        )  # fmt: skip
        _TRIED_JOINED[key] = kernel if exact else None
    return _TRIED_JOINED[key]


def _is_exact(device: torch.device, name: str, head_dim: int, limit: float, measure: Callable[[], float]) -> bool:
    """Whether a trial, which measures an error, can be made here and stays within the limit."""
    error = _unless_it_fails(device, name, measure)
    if error is None:
        return False
    if not error <= limit:  # also where it is no number
        log.warning("attention by %s is off by %.4f with heads of %d channels, not used", name, error, head_dim)
        return False
    log.info("attention by %s: error %.4f with heads of %d channels", name, error, head_dim)
    return True


def _unless_it_fails(device: torch.device, name: str, call: Callable[[], T]) -> T | None:
    """What is called; None, and a line in the log, where it is not there or does not work here."""
    try:
        with _on(device):
            return call()
    except ImportError as missing:
        log.info("no attention by %s: %s", name, first_line(missing))
    except torch.OutOfMemoryError:  # of the moment, not of the kernel
        raise
    except Exception as failure:  # whatever a foreign kernel raises, there is another
        log.warning("attention by %s does not work here: %s", name, first_line(failure))
    return None


class SparseAttention:
    """Self-attention over a share of the blocks, with dense attention to fall to."""

    def __init__(self, kernel: BlockKernel) -> None:
        self._kernel: BlockKernel | None = kernel
        self.supports = kernel.supports

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, density: float, grid: Grid | None) -> Tensor:
        """See `attend_sparsely`."""
        if grid is not None and math.prod(grid) != query.shape[1]:
            raise ValueError(f"a grid of {grid} has not the {query.shape[1]} tokens that there are")
        if self._kernel is not None:
            try:
                with _on(query.device):
                    return attend_sparsely(self._kernel, query, key, value, density, grid)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                log.warning("%s stops being used: %s", self._kernel.name, first_line(error))
                self._kernel = None
        return attention_of(query.device)(query, key, value)


@lru_cache(maxsize=8)
def sparse_attention_of(device: torch.device, head_dim: int = HEAD_WIDTH) -> SparseAttention | None:
    """What leaves out blocks on a device, tried with this width of heads; None where nothing can."""
    if device.type != "cuda":
        return SparseAttention(TorchBlocks())
    if head_dim not in CudnnBlocks.widths:
        log.warning("turbo changes nothing: no kernel for heads of %d channels", head_dim)
        return None
    try:
        kernel, trial = CudnnBlocks(device), AttentionAccuracy.of(device, head_dim)
        with _on(device):
            given, wanted = (
                attend_sparsely(each, trial.query, trial.key, trial.value, 0.5).double()
                for each in (kernel, TorchBlocks())
            )
        off = float((given - wanted).norm() / wanted.norm())
    except ImportError as error:
        log.warning("turbo changes nothing: %s; install wan-mcp[hopper]", first_line(error))
        return None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        log.warning("turbo changes nothing, blocks cannot be left out here: %s", first_line(error))
        return None
    if not off <= FP8_LIMIT:  # also where it is no number
        log.warning("turbo changes nothing: %s is off by %.4f", kernel.name, off)
        return None
    log.info("%s: error %.4f", kernel.name, off)
    return SparseAttention(kernel)


def _maker(name: str) -> Callable[[torch.device], Kernel]:
    makers: dict[str, Callable[[torch.device], Kernel]] = {"cudnn-fp8": CudnnFp8, "sage-fp8": DenseSage}
    return makers[name] if name in FP8_KERNELS else lambda device: TorchKernel(name)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Triton and CuTe launch on the current device, whatever their tensors are on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
