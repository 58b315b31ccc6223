"""The manifest of a model: one strict TOML file.

A manifest describes everything about a model, so that adding one of a known family needs no code.
Unknown keys are errors that name the file and the key; those of `retired_keys` are ignored with a remark.
Knows nothing of torch or of jobs.
"""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, PrivateAttr, ValidationError, model_validator

from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.catalog.costs import Costs
from wan_mcp.catalog.denoisers import Expert
from wan_mcp.catalog.families import FAMILIES, FamilySpec
from wan_mcp.catalog.presets import Preset, PresetName
from wan_mcp.catalog.retired_keys import drop_retired
from wan_mcp.catalog.sizes import FrameRule, Sizes
from wan_mcp.catalog.world import World
from wan_mcp.errors import BrokenManifest
from wan_mcp.parsing import parse_toml
from wan_mcp.schema.enums import Frozen, Kind, Task
from wan_mcp.schema.refusals import phrase

__all__ = ["Defaults", "Licence", "Limits", "Manifest", "Pipeline", "Quantization", "Weights"]


log = logging.getLogger(__name__)


class Licence(Frozen):
    """The licence of the weights."""

    id: str = Field(description="SPDX identifier, or the licence's own name.")
    url: str | None = None
    gated: bool = Field(default=False, description="True if the hub requires accepting the licence before a download.")
    conditions: str | None = Field(
        default=None, description="Conditions that a user must know before using the results."
    )


class Weights(Frozen):
    """The source of the weights: shipped with this package, or a repository on the hub."""

    embedded: str | None = Field(default=None, description="Folder below the package's embedded weights.")
    repository: str | None = None
    revision: str | None = None
    files: tuple[str, ...] = Field(default=(), description="Patterns of the files wanted; empty for all.")
    disk_bytes: int = Field(ge=0, description="Size on disk.")
    memory_bytes: dict[str, int] = Field(default={}, description="Size in memory per precision, e.g. bf16, fp8.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.embedded is None) == (self.repository is None):
            raise ValueError("give either 'embedded' or 'repository'")
        return self


def _known_family(name: str) -> str:
    return FAMILIES.get(name).name


class Pipeline(Frozen):
    """The pipeline: how the parts of the model work together."""

    family: Annotated[str, AfterValidator(_known_family)] = Field(
        description="The code that loads and runs it: one of wan-mcp's families, or of an installed package's."
    )
    text_tokens: int = Field(default=512, ge=1, description="Text length that the denoiser was trained with.")
    scheduler: Literal["unipc", "euler"] | None = Field(
        default=None, description="Replaces the scheduler that ships with the weights."
    )
    flow_shift: float | None = Field(default=None, gt=0, description="Shift of the noise schedule, if replaced.")
    sigmas: tuple[float, ...] = Field(default=(), description="Fixed noise levels of a distilled model.")
    experts: tuple[Expert, ...] = ()
    boundary_ratio: float | None = Field(
        default=None, gt=0, lt=1, description="Noise level where the second expert takes over."
    )
    edits: bool = Field(
        default=False,
        description="True if image to image edits the image by the prompt, so that there is no strength.",
    )
    turbo: bool = Field(default=False, description="True if videos may use attention that skips blocks.")
    latent_rgb: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$",
        description="Map from latents to RGB that live previews are made with; none without it. One of the files "
        "latent_rgb/NAME.toml in the folder of the manifests.",
    )


class Quantization(Frozen):
    """The precision that the denoiser runs in."""

    recipe: Literal["fp8-rowwise", "gguf"]
    exclude: tuple[str, ...] = Field(default=(), description="Patterns of the modules that are not quantized.")


Range = Annotated[tuple[float, float], Field(description="Smallest and largest allowed value.")]


class Limits(Frozen):
    """The allowed values of a call."""

    steps: tuple[int, int] = (1, 100)
    guidance_scale: Range = (1.0, 20.0)
    strength: Range = (0.05, 1.0)
    prompt_characters: int = Field(default=2000, ge=1)
    loras: int = Field(
        default=0, ge=0, description="Maximum number of LoRAs per request; 0 if the model supports none."
    )


class Defaults(Frozen):
    """The default values of a call."""

    steps: int = 30
    guidance_scale: float = 5.0
    guidance_scale_2: float | None = Field(default=None, description="For the second expert, if there is one.")
    strength: float = 0.8
    negative_prompt: str = ""

    @property
    def second_guidance_scale(self) -> float:
        """Guidance scale of the second expert: its own, or that of the first."""
        return self.guidance_scale_2 or self.guidance_scale


class Manifest(Frozen):
    """Everything about one model."""

    schema_version: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.\-]{0,63}$")
    title: str
    summary: str = Field(description="One sentence that helps a person or model choose.")
    tasks: tuple[Task, ...] = Field(min_length=1)
    licence: Licence
    weights: Weights
    pipeline: Pipeline
    quantization: Quantization | None = None
    frames: FrameRule | None = None
    sizes: Sizes | None = None
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    costs: Costs = Costs()
    presets: dict[PresetName, Preset] = Field(default={}, description="Quality presets that a request may name.")
    caption: CaptionSpec | None = None
    world: World | None = Field(default=None, description="What it knows, if that is less than what people ask for.")
    _shipped: bool = PrivateAttr(default=False)

    @property
    def required_revision(self) -> str | None:
        """The revision that the weights must have, by the word of a user's own manifest; None for any.

        The revision in a manifest of ours is what a first download trusts. What is there already stays, and
        `wan-mcp pull --update` follows upstream.
        """
        return None if self._shipped else self.weights.revision

    @model_validator(mode="after")
    def _complete(self) -> Self:
        kinds = {task.kind for task in self.tasks}
        if Kind.VIDEO in kinds and self.frames is None:
            raise ValueError("a model that makes videos needs [frames]")
        if kinds & {Kind.VIDEO, Kind.IMAGE} and self.sizes is None:
            raise ValueError("a model that makes videos or images needs [sizes]")
        if Kind.CAPTION in kinds and self.caption is None:
            raise ValueError("a model that makes captions needs [caption]")
        if self.caption is not None and self.caption.video_frames > 1 and self.pipeline.family != "chat":
            raise ValueError("caption.video_frames is for the family 'chat'")
        self._check_family()
        self._check_values("defaults", self.defaults)
        for name in self.presets:
            self._check_values(f"presets.{name}", self.defaults_of(name))
            if self.presets[name].turbo and not self.pipeline.turbo:
                raise ValueError(f"presets.{name}.turbo needs pipeline.turbo")
            if self.presets[name].step_cache and not self.takes_step_cache:
                able = _families_with("step_cache")
                raise ValueError(f"presets.{name}.step_cache is for {able} without pipeline.sigmas")
        return self

    def _check_family(self) -> None:
        """Refuse what the family cannot do."""
        family, pipeline = self.family, self.pipeline
        for task in self.tasks:
            if not family.makes(task.kind):
                able = ", ".join(other.name for other in FAMILIES if other.makes(task.kind))
                raise ValueError(f"the family '{family.name}' makes no {task.kind}s; these do: {able}")
            if task not in family.tasks:
                able = ", ".join(other.name for other in FAMILIES if task in other.tasks)
                raise ValueError(f"the family '{family.name}' does not do {task}; these do: {able}")
        asked = {
            "pipeline.scheduler": ("scheduler", pipeline.scheduler),
            "pipeline.experts": ("experts", pipeline.experts),
            "pipeline.boundary_ratio": ("experts", pipeline.boundary_ratio),
            "pipeline.latent_rgb": ("preview", pipeline.latent_rgb),
            "limits.loras": ("loras", self.limits.loras),
            # Of videos: manifests of images may have it, as in 0.1.0, and nobody can ask for it.
            "pipeline.turbo": ("turbo", pipeline.turbo and family.makes(Kind.VIDEO)),
        }
        for key, (capability, value) in asked.items():
            if value and not getattr(family.capabilities, capability):
                raise ValueError(f"{key} is for {_families_with(capability)}")

    def _check_values(self, where: str, values: Defaults) -> None:
        if self.pipeline.sigmas and len(self.pipeline.sigmas) != values.steps:
            raise ValueError(f"{where}.steps must be the number of pipeline.sigmas")
        bounds = {key: getattr(self.limits, key) for key in ("steps", "guidance_scale", "strength")}
        if values.guidance_scale_2 is not None:
            bounds["guidance_scale_2"] = self.limits.guidance_scale
        for key, (smallest, largest) in bounds.items():
            if not smallest <= getattr(values, key) <= largest:
                raise ValueError(f"{where}.{key} is outside limits.{key.removesuffix('_2')}")

    @property
    def is_gguf(self) -> bool:
        """True if the denoisers are low-bit GGUF files."""
        return self.quantization is not None and self.quantization.recipe == "gguf"

    @property
    def can_be_fp8(self) -> bool:
        """True if the denoisers may run in FP8 on a GPU that supports it."""
        return self.is_gguf or (self.quantization is not None and self.quantization.recipe == "fp8-rowwise")

    @property
    def family(self) -> FamilySpec:
        """The family, with what it can do."""
        return FAMILIES.get(self.pipeline.family)

    @property
    def takes_step_cache(self) -> bool:
        """Whether passes can be left out: a model of few steps has none to spare."""
        return self.family.capabilities.step_cache and not self.pipeline.sigmas

    def defaults_of(self, preset: str | None) -> Defaults:
        """Return the default values of a request, with a preset of `presets` or without."""
        values = next((each.values for name, each in self.presets.items() if name == preset), {})
        return self.defaults.model_copy(update=values)

    @classmethod
    def read(cls, file: Path, remark: Callable[[str], None] = log.warning, *, shipped: bool = False) -> Self:
        """Read one manifest file, of ours or a user's own; call `remark` with a sentence for each ignored key.

        Raises:
            BrokenManifest: The file is not TOML, or breaks the schema; the message names the file and the keys.
        """
        try:
            content = parse_toml(file.read_text(encoding="utf-8"))
            for words in drop_retired(content):
                remark(f"manifest {file}: {words}")
            manifest = cls.model_validate(content)
            manifest._shipped = shipped
            return manifest
        except ValidationError as error:
            raise BrokenManifest(f"manifest {file}: {'; '.join(_sentences(error))}") from error
        except (OSError, ValueError) as error:
            raise BrokenManifest(f"manifest {file}: {error}") from error


def _families_with(capability: str) -> str:
    """Return the families that have a capability, in words."""
    names = [f"'{family.name}'" for family in FAMILIES if getattr(family.capabilities, capability)]
    return f"the {'family' if len(names) == 1 else 'families'} {', '.join(names)}"


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        key = ".".join(str(part) for part in problem["loc"]) or "the file"
        unknown = problem["type"] == "extra_forbidden"
        yield f"unknown key '{key}'" if unknown else f"'{key}': {phrase(dict(problem))}"
