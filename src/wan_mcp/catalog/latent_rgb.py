"""Maps from latents to RGB: small files of numbers, one for each autoencoder, from which live previews are made.

A map is linear. It is fitted on what the autoencoder itself decodes (`training/latent_rgb.py`), so an autoencoder whose
weights nobody could run here has none. A manifest names the map of its model as `pipeline.latent_rgb`.
"""

from pathlib import Path
from typing import Self

from pydantic import Field, FiniteFloat, ValidationError

from wan_mcp.errors import BrokenManifest
from wan_mcp.parsing import parse_toml
from wan_mcp.schema.enums import Frozen

__all__ = ["FOLDER", "LatentRGB"]

FOLDER = "latent_rgb"
"""The folder of the maps, in a folder of manifests."""


class LatentRGB(Frozen):
    """A linear map from the normalized latents of one place to its colour, in -1…1."""

    factors: tuple[tuple[FiniteFloat, FiniteFloat, FiniteFloat], ...] = Field(
        min_length=1, description="Red, green and blue of each channel of the latents."
    )
    bias: tuple[FiniteFloat, FiniteFloat, FiniteFloat] = Field(
        default=(0.0, 0.0, 0.0), description="What is added to each colour."
    )

    @classmethod
    def read(cls, file: Path) -> Self:
        """Read one map.

        Raises:
            BrokenManifest: The file is not TOML, or is not a map; the message names the file.
        """
        try:
            return cls.model_validate(parse_toml(file.read_text(encoding="utf-8")))
        except ValidationError as error:
            keys = ", ".join(".".join(map(str, problem["loc"])) for problem in error.errors(include_url=False))
            raise BrokenManifest(
                f"latent_rgb map {file}: needs 'factors', a row of three numbers for each channel of the latents, and "
                f"may have 'bias', three numbers; wrong: {keys}"
            ) from error
        except (OSError, ValueError) as error:
            raise BrokenManifest(f"latent_rgb map {file}: {error}") from error
