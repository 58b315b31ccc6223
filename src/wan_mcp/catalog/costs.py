"""The costs of a model's work: the part of a manifest from which times and memory are computed."""

from typing import Annotated

from pydantic import Field

from wan_mcp.schema.enums import Frozen

__all__ = ["Costs"]

Pixels = Annotated[int, Field(ge=1)]


class Costs(Frozen):
    """The factors of time and memory. The defaults are those of Wan's 14B denoisers."""

    token: tuple[Pixels, Pixels, Pixels] = Field(
        default=(4, 16, 16), description="Frames, rows and columns of pixels that one token of the denoiser stands for."
    )
    even_at: int = Field(
        default=14_300,
        ge=1,
        description="Tokens at which attention takes as long as all the rest of a block. It is as many operations at "
        "3 * width + the feed-forward width (linear layers: 24 width² + 4 width * feed-forward a token, attention: "
        "4 width * tokens), and runs at about half the rate of products in FP8. Wan's 14B on an H200, measured: "
        "14,260.",
    )
    token_bytes: int = Field(
        default=200_000,
        ge=0,
        description="Memory in bf16 per token of a denoiser's pass, without the weights: the peak of one "
        "block. Wan's 14B, measured: 167 kB, with its blocks in FP8.",
    )
    pixel_bytes: int = Field(
        default=3_100,
        ge=0,
        description="Memory of the decoder in bf16 for each pixel of the frames that it decodes together (as many as "
        "a token stands for). Wan2.1's, measured: 10.3 GiB at 1280x720.",
    )
    text_bytes: int = Field(
        default=0, ge=0, description="Size of the text encoder in bf16, a part of weights.memory_bytes."
    )

    def tokens(self, width: int, height: int, frames: int = 1) -> int:
        """Return the length of the denoiser's sequence for a result of these pixels and frames."""
        in_time, in_height, in_width = self.token
        return (1 + (frames - 1) // in_time) * max(1, height // in_height) * max(1, width // in_width)
