"""Attention of the denoisers' blocks: the fastest kernel that passes its accuracy check, or sparse on request."""

from wan_mcp.engine.attention.custom_op import (
    AttentionMode,
    SparseCount,
    Turbo,
    attend,
    attend_self,
    attention_mode,
    fused_attention,
)
from wan_mcp.engine.attention.fused_qkv import QKVProjection
from wan_mcp.engine.attention.selector import (
    AUTO,
    KERNEL_NAMES,
    Attention,
    attention_in_use,
    choose_attention,
    sparse_attention_of,
)

__all__ = [
    "AUTO",
    "KERNEL_NAMES",
    "Attention",
    "AttentionMode",
    "QKVProjection",
    "SparseCount",
    "Turbo",
    "attend",
    "attend_self",
    "attention_in_use",
    "attention_mode",
    "choose_attention",
    "fused_attention",
    "sparse_attention_of",
]
