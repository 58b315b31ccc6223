"""Attention through torch's own kernels, and the kernel interface."""

from typing import Protocol, get_args

import torch.nn.functional as F  # noqa: N812
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.parallel.context_parallel import ContextParallel
from wan_mcp.schema.enums import TorchAttention

__all__ = ["ANY", "TORCH_KERNELS", "FusedKernel", "Kernel", "TorchKernel"]

ANY = "sdpa"
"""Name for torch's automatic choice of kernel."""
BACKENDS: dict[TorchAttention, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
TORCH_KERNELS: dict[str, SDPBackend] = {name: BACKENDS[name] for name in get_args(TorchAttention)}
"""Kernels that torch ships for CUDA, in the order of `TorchAttention`."""


class Kernel(Protocol):
    """One way to compute attention."""

    @property
    def name(self) -> str:
        """Return the kernel's name for receipts, logs and settings."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Return the supported values of head_dim."""

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Check whether the kernel suits inputs of these shapes, with a supported head_dim."""

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""


class FusedKernel(Kernel, Protocol):
    """A kernel that also computes everything between two matrix products of a block."""

    def attend_fused(self, projection: QKVProjection, context: ContextParallel | None = None) -> tuple[Tensor, Tensor]:
        """Compute self-attention, quantized for the next product: (tokens, width) e4m3, scales (tokens, 1) float32.

        With `context`, the projection and the result have this rank's tokens.
        """


class TorchKernel:
    """One of torch's kernels or, with the name `sdpa`, torch's automatic choice."""

    widths = (64, 128)

    def __init__(self, name: str) -> None:
        """Set the kernel: `name` is one of `TORCH_KERNELS`, or `ANY`."""
        self.name = name
        self._backend = None if name == ANY else TORCH_KERNELS[name]

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Return true: torch itself rejects inputs that a kernel does not support."""
        return True

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self._backend is None:
            return self._attend(query, key, value)
        with sdpa_kernel([self._backend]):
            # Fused kernels have no useful float32 support; those models run in bf16.
            return self._attend(query, key, value)

    @staticmethod
    def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))
        return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).contiguous()
