"""How large a block's tensors are, before there are any."""

import math
from dataclasses import dataclass

from wan_mcp.engine.blocks.block import BlockKind
from wan_mcp.engine.blocks.layout import ALIGNMENT
from wan_mcp.engine.blocks.linear import FP8

__all__ = ["BlockSize"]

FLOAT32 = 4


@dataclass(frozen=True)
class BlockSize:
    """Bytes of one block's tensors, each in multiples of `ALIGNMENT`."""

    step: int
    """Of what every step needs."""
    whole: int
    """With what only a new text needs."""

    @classmethod
    def of(cls, kind: BlockKind) -> "BlockSize":
        """The size of a block of this kind: what `BlockLayout` gives for its tensors."""
        width, inner, item = kind.shape.width, kind.shape.ffn_width, kind.dtype.itemsize

        def linear(outputs: int, inputs: int) -> int:
            bias = _aligned(outputs * item)
            if kind.recipe == FP8:
                return _aligned(outputs * inputs) + _aligned(outputs * FLOAT32) + bias
            return _aligned(outputs * inputs * item) + bias

        step = _aligned(6 * width * FLOAT32) + 3 * _aligned(width * item)  # modulation, three normalisations
        step += 2 * _aligned(width * FLOAT32) if kind.shape.cross_norm else 0
        step += linear(3 * width, width) + 3 * linear(width, width) + linear(inner, width) + linear(width, inner)
        return cls(step, step + linear(2 * width, width) + _aligned(width * item))


def _aligned(size: int) -> int:
    return math.ceil(size / ALIGNMENT) * ALIGNMENT
