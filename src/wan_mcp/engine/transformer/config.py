"""The properties that distinguish one kind of Wan block from another; a compiled package is specific to them."""

from dataclasses import dataclass
from typing import Any

__all__ = ["BlockShape"]


@dataclass(frozen=True)
class BlockShape:
    """The sizes and options of a block, independent of the number of blocks, their weights and the image size."""

    width: int
    """Channels of the residual stream."""
    heads: int
    ffn_dim: int
    cross_norm: bool
    """Whether a normalization with weights precedes the cross-attention."""
    temb_per_token: bool
    """Whether each token has a separate timestep (TI2V-5B: the first frame may be a clean image)."""
    eps: float

    @property
    def head_dim(self) -> int:
        """Return the channels of one head."""
        return self.width // self.heads

    @classmethod
    def of(cls, config: Any, *, temb_per_token: bool) -> "BlockShape | None":
        """Return the shape for a `WanTransformer3DModel`'s configuration, or None for unsupported blocks.

        Unsupported are blocks that read an image through cross-attention (Wan2.1 image to video).
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
