"""Select a device's attention kernels: the fastest first, each checked for accuracy, each with a fallback."""

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
from wan_mcp.engine.attention.block_sparse import (
    BlockKernel,
    CudnnBlocks,
    DenseSage,
    TorchBlocks,
    attend_sparsely,
    leaves_out,
)
from wan_mcp.engine.attention.cudnn_fp8 import CudnnFp8
from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.attention.sdpa import ANY, TORCH_KERNELS, FusedKernel, Kernel, TorchKernel
from wan_mcp.engine.device.kernel_checks import measured_error
from wan_mcp.engine.parallel.context_parallel import ContextParallel
from wan_mcp.errors import JobFailed, RankLost
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
"""Kernel names that `choose_attention` accepts, in addition to `auto`."""
FP8_LIMIT, LIMIT = 0.04, 0.01
"""Maximum error of an 8-bit kernel, and of any other: at least twice the error of correct kernels."""
FUSED_SUFFIX = ", joined"
"""Marks the name of a kernel that runs fused with the steps around it; receipts and timings of homes have this word."""
HEAD_WIDTH = 128
"""The head_dim of all Wan models except our small demo model."""


class Attention:
    """Self- and cross-attention on one device, by kernels that passed their accuracy checks."""

    def __init__(self, kernels: list[Kernel], head_dim: int = HEAD_WIDTH, fused: FusedKernel | None = None) -> None:
        """Set the checked kernels for this head_dim, best first; the last must support every input.

        `fused` is the one that also passed its check fused with the steps around it, if any.
        """
        self._kernels = kernels
        self._head_width = head_dim
        self._fused = fused
        self._refused: set[tuple[str, torch.Size]] = set()

    @property
    def name(self) -> str:
        """Return the name of the best kernel, the one for long sequences, marked if fused: its bits differ."""
        return self._kernels[0].name + (FUSED_SUFFIX if self._fused is not None else "")

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""
        for kernel in self._proved_for(query, key):
            out = self._attempt(kernel.name, query, partial(kernel, query, key, value))
            if out is not None:
                return out
        return self._kernels[-1](query, key, value)

    def fused(self, projection: QKVProjection, context: ContextParallel | None = None) -> tuple[Tensor, Tensor] | None:
        """Compute fused self-attention, see `FusedKernel.attend_fused`.

        Return None if this shape uses another kernel, or the fused one failed; the caller then runs three steps.
        """
        kernel, name = self._fused, f"{self.name},"
        query = projection.part(0) if context is None else context.of_my_heads(projection.part(0))
        if kernel is None or (name, query.shape) in self._refused:
            return None
        if next(self._proved_for(query, query), None) is not kernel:
            return None
        return self._attempt(name, query, partial(kernel.attend_fused, projection, context))

    def _proved_for(self, query: Tensor, key: Tensor) -> Iterator[Kernel]:
        """Yield the kernels for these shapes, best first, without the last."""
        for kernel in self._kernels[:-1] if query.shape[-1] == self._head_width else []:
            if (kernel.name, query.shape) not in self._refused and kernel.supports(query, key):
                yield kernel

    def _attempt(self, name: str, query: Tensor, compute: Callable[[], T]) -> T | None:
        """Return the result of `compute`, or None if it failed; a failed kernel is not retried for this shape."""
        try:
            with _on(query.device):
                return compute()
        except (torch.OutOfMemoryError, RankLost):
            raise
        except Exception as error:  # a third-party kernel may raise anything, and there is a fallback
            self._refused.add((name, query.shape))
            log.warning("attention by %s does not support %s: %s", name, list(query.shape), first_line(error))
            return None


_IN_USE: dict[torch.device, Attention] = {}
_TRIED: dict[tuple[torch.device, str, int], Kernel | None] = {}
_TRIED_FUSED: dict[tuple[torch.device, int], FusedKernel | None] = {}


def choose_attention(
    device: torch.device, force: str = AUTO, head_dim: int = HEAD_WIDTH, *, eight_bits: bool = True
) -> Attention:
    """Select the kernels for a device, for the rest of this process; each is checked once.

    Args:
        device: the denoisers' device.
        force: a name from `KERNEL_NAMES`, to use that kernel wherever it is supported.
        head_dim: of the denoisers that will run; torch chooses the kernel for other values.
        eight_bits: whether FP8 kernels may be used without being forced.

    Raises:
        JobFailed: `force` is not a known kernel, or does not work here.
    """
    if force != AUTO and force not in KERNEL_NAMES:
        raise JobFailed(
            "bad_setting", f"Unknown attention kernel {force!r}. Use one of {AUTO}, {', '.join(KERNEL_NAMES)}."
        )
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # with an index, as in `tensor.device`
    kernels: list[Kernel] = []
    if device.type == "cuda" and force != ANY:
        in_fp8 = [name for name in FP8_KERNELS if force == name or (force == AUTO and eight_bits)]
        in_sixteen_bits = sorted(TORCH_KERNELS, key=lambda name: name != force)
        for names in (in_fp8, in_sixteen_bits):  # one for long sequences, one for all others
            passed = (kernel for name in names if (kernel := kernel_of(device, name, head_dim)) is not None)
            kernels += [kernel for kernel in (next(passed, None),) if kernel is not None]
    kernels.append(TorchKernel(ANY))
    if force not in (AUTO, *(kernel.name for kernel in kernels)):
        raise JobFailed(
            "no_attention",
            f"Attention kernel {force} does not work on {device}; see the log for the reason. Use {AUTO}.",
        )
    attention = _IN_USE[device] = Attention(kernels, head_dim, _fused_of(device, kernels[0], head_dim))
    log.info("attention on %s: %s", device, " > ".join(kernel.name for kernel in kernels))
    return attention


def attention_of(device: torch.device) -> Attention:
    """Return the attention selected for a device; torch's automatic choice by default."""
    return _IN_USE.get(device, _ANY)


def attention_in_use(device: torch.device | None = None) -> str:
    """Return the name of a device's kernel for long self-attention, for receipts and logs.

    Without a device, use the last one that kernels were selected for.
    """
    if device is None:
        device = next(reversed(_IN_USE), torch.device("cpu"))
    return attention_of(device).name


_ANY = Attention([TorchKernel(ANY)])


def kernel_of(device: torch.device, name: str, head_dim: int = HEAD_WIDTH) -> Kernel | None:
    """Return the kernel of that name if it is available and accurate enough for this head_dim; checked once."""
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
        log.info("no attention by %s for a head_dim of %d", name, head_dim)
        return None
    limit = FP8_LIMIT if name in FP8_KERNELS else LIMIT
    exact = _is_exact(device, name, head_dim, limit, lambda: AttentionAccuracy.of(device, head_dim).error(kernel))
    return kernel if exact else None


def _fused_of(device: torch.device, kernel: Kernel, head_dim: int) -> FusedKernel | None:
    """Return the kernel if it can also run fused and is accurate enough that way; checked once."""
    if not isinstance(kernel, CudnnFp8):
        return None
    key = (device, head_dim)
    if key not in _TRIED_FUSED:
        exact = _is_exact(
            device, kernel.name + FUSED_SUFFIX, head_dim, FP8_LIMIT,
            lambda: FusedAccuracy.of(device, head_dim).error(kernel.attend_fused),
        )  # fmt: skip
        _TRIED_FUSED[key] = kernel if exact else None
    return _TRIED_FUSED[key]


def _is_exact(device: torch.device, name: str, head_dim: int, limit: float, measure: Callable[[], float]) -> bool:
    """Check whether `measure`, which returns an error, works here and stays within the limit."""
    check = f"attention by {name} with a head_dim of {head_dim}"
    error = _unless_it_fails(device, name, partial(measured_error, device, check, limit, measure))
    if error is None:
        return False
    if not error <= limit:  # also true for NaN
        log.warning("attention by %s is not used: error %.4f with a head_dim of %d", name, error, head_dim)
        return False
    log.info("attention by %s: error %.4f with a head_dim of %d", name, error, head_dim)
    return True


def _unless_it_fails(device: torch.device, name: str, call: Callable[[], T]) -> T | None:
    """Return the result of `call`, or log why it is missing or does not work here, and return None."""
    try:
        with _on(device):
            return call()
    except ImportError as missing:
        log.info("no attention by %s: %s", name, first_line(missing))
    except torch.OutOfMemoryError:  # temporary, not a property of the kernel
        raise
    except Exception as failure:  # a third-party kernel may raise anything, and there is a fallback
        log.warning("attention by %s does not work here: %s", name, first_line(failure))
    return None


class SparseAttention:
    """Self-attention over a share of the blocks."""

    def __init__(self, kernel: BlockKernel) -> None:
        self._kernel: BlockKernel | None = kernel

    def supports(self, query: Tensor, density: float) -> bool:
        """Check whether attention from these queries would be sparse: the kernel works, and leaves blocks out."""
        kernel = self._kernel
        return kernel is not None and kernel.supports(query) and leaves_out(query.shape[1], kernel.block, density)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor, density: float, grid: Grid | None) -> Tensor | None:
        """See `attend_sparsely`; None if the queries are not supported, or the kernel failed."""
        if grid is not None and math.prod(grid) != query.shape[1]:
            raise ValueError(f"a grid of {grid} does not match {query.shape[1]} tokens")
        if self._kernel is None or not self.supports(query, density):
            return None
        try:
            with _on(query.device):
                return attend_sparsely(self._kernel, query, key, value, density, grid)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            log.warning("%s is disabled: %s", self._kernel.name, first_line(error))
            self._kernel = None
        return None


@lru_cache(maxsize=8)
def sparse_attention_of(device: torch.device, head_dim: int = HEAD_WIDTH) -> SparseAttention | None:
    """Return a device's sparse attention, checked for this head_dim; None if there is none."""
    if device.type != "cuda":
        return SparseAttention(TorchBlocks())
    if head_dim not in CudnnBlocks.widths:
        log.warning("turbo has no effect: no kernel for a head_dim of %d", head_dim)
        return None
    try:
        kernel = CudnnBlocks(device)
        check = f"sparse attention by {kernel.name} with a head_dim of {head_dim}"
        off = measured_error(device, check, FP8_LIMIT, partial(_sparse_error, kernel, device, head_dim))
    except ImportError as error:
        log.warning("turbo has no effect: %s; install wan-mcp[hopper]", first_line(error))
        return None
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        log.warning("turbo has no effect, sparse attention does not work here: %s", first_line(error))
        return None
    if not off <= FP8_LIMIT:  # also true for NaN
        log.warning("turbo has no effect: %s has an error of %.4f", kernel.name, off)
        return None
    log.info("%s: error %.4f", kernel.name, off)
    return SparseAttention(kernel)


def _sparse_error(kernel: BlockKernel, device: torch.device, head_dim: int) -> float:
    """Return the relative difference of a sparse kernel from attention to the same blocks by torch."""
    trial = AttentionAccuracy.of(device, head_dim)
    with _on(device):
        actual, expected = (
            attend_sparsely(each, trial.query, trial.key, trial.value, 0.5).double() for each in (kernel, TorchBlocks())
        )
    return float((actual - expected).norm() / expected.norm())


def _maker(name: str) -> Callable[[torch.device], Kernel]:
    makers: dict[str, Callable[[torch.device], Kernel]] = {"cudnn-fp8": CudnnFp8, "sage-fp8": DenseSage}
    return makers[name] if name in FP8_KERNELS else lambda device: TorchKernel(name)


def _on(device: torch.device) -> AbstractContextManager[Any]:
    """Make `device` current: Triton and CuTe launch on the current device, not the tensors' one."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
