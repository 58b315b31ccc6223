"""What distinguishes one kind of Wan block from another: what a compiled package is made for."""

from dataclasses import dataclass
from typing import Any

__all__ = ["BlockShape"]


@dataclass(frozen=True)
class BlockShape:
    """The sizes and options of a block; how many there are, their weights and the picture's size play no part."""

    width: int
    """Channels of the residual stream."""
    heads: int
    ffn_dim: int
    cross_norm: bool
    """Whether a normalization with weights stands before the cross-attention."""
    temb_per_token: bool
    """Whether each token has a time of its own (TI2V-5B: the first frame may be a clean picture)."""
    eps: float

    @property
    def head_dim(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @classmethod
    def of(cls, config: Any, *, temb_per_token: bool) -> "BlockShape | None":
        """The shape behind a `WanTransformer3DModel`'s configuration, or None where the blocks are of another kind.

        Another kind are those that read a picture through cross-attention (Wan2.1 image to video).
        """
        if config.added_kv_proj_dim is not None or config.image_dim is not None:
            return None
        return cls(
            width=config.num_attention_heads * config.attention_head_dim,
            heads=config.num_attention_heads,
            ffn_dim=config.ffn_dim,
            cross_norm=config.cross_attn_norm,
            temb_per_token=temb_per_token,
            eps=config.eps,
        )

    def describe(self) -> dict[str, Any]:
        """Return the shape under the names of 0.1.0: converted weights on disk are found by a hash of them."""
        return {
            "width": self.width,
            "heads": self.heads,
            "ffn_width": self.ffn_dim,
            "cross_norm": self.cross_norm,
            "times_per_token": self.temb_per_token,
            "eps": self.eps,
        }
