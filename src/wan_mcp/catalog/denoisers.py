"""The denoisers of a model, with the adapters or GGUF files that a manifest adds from other repositories."""

from typing import Self

from pydantic import Field, model_validator

from wan_mcp.schema.enums import Frozen

__all__ = ["Expert", "Gguf", "Lora"]


class Lora(Frozen):
    """A low-rank adapter that belongs to the model: downloaded with it, and fused into it at every load."""

    repository: str
    file: str = Field(pattern=r"\.safetensors$")
    scale: float = 1.0


class Gguf(Frozen):
    """A file with the denoiser's low-bit weights, used instead of those in the model's own repository."""

    repository: str
    file: str = Field(pattern=r"\.gguf$")


class Expert(Frozen):
    """One denoiser; the first of two serves the noise levels above pipeline.boundary_ratio."""

    name: str
    subfolder: str = Field(description="Folder of the denoiser in the repository, e.g. transformer_2.")
    lora: tuple[Lora, ...] = ()
    gguf: Gguf | None = None

    @model_validator(mode="after")
    def _can_be_fused(self) -> Self:
        if self.lora and self.gguf:
            raise ValueError("'lora' and 'gguf' exclude each other: weights in GGUF cannot be changed; set one of them")
        return self

    @property
    def extra_files(self) -> tuple[tuple[str, str], ...]:
        """Repository and path of each file that does not come from the model's own repository."""
        files = [(lora.repository, lora.file) for lora in self.lora]
        return (*files, (self.gguf.repository, self.gguf.file)) if self.gguf else tuple(files)
