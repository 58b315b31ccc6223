"""Attention through torch: its own kernels by name, and what chains of kernels have in common."""

from typing import Protocol, get_args

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.schema.enums import TorchAttention

__all__ = ["ANY", "TORCH_KERNELS", "FusedKernel", "Kernel", "TorchKernel"]

ANY = "sdpa"
"""The name of whichever kernel torch takes."""
BACKENDS: dict[TorchAttention, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
TORCH_KERNELS: dict[str, SDPBackend] = {name: BACKENDS[name] for name in get_args(TorchAttention)}
"""What torch ships for CUDA, in the order of `TorchAttention`."""


class Kernel(Protocol):
    """One way to compute attention."""

    @property
    def name(self) -> str:
        """What receipts, logs and settings call it."""

    @property
    def widths(self) -> tuple[int, ...]:
        """The widths of heads that it can do."""

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Whether it is the right one for inputs of these shapes, of one of its widths."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""


class FusedKernel(Kernel, Protocol):
    """A kernel that also goes all the way from one matrix product of a block to the next one."""

    def attend_fused(self, joined: QKVProjection) -> tuple[Tensor, Tensor]:
        """Self-attention as the next product takes it: (tokens, width) e4m3 and scales (tokens, 1) float32."""


class TorchKernel:
    """One kernel of torch, or, by the name of `sdpa`, whichever torch takes."""

    widths = (64, 128)

    def __init__(self, name: str) -> None:
        """`name` is one of `TORCH_KERNELS`, or `ANY`."""
        self.name = name
        self._backend = None if name == ANY else TORCH_KERNELS[name]

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Everything; torch refuses what a kernel cannot do."""
        return True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self._backend is None:
            return self._attend(query, key, value)
        with sdpa_kernel([self._backend]):
            # Fused kernels have no float32 that is worth having; those models run in bf16.
            return self._attend(query, key, value)

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        heads = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return torch.Tensor.contiguous(F.scaled_dot_product_attention(*heads).transpose(1, 2))
