"""Low-rank adapters on a model's denoisers: read, fitted, fused for good, or put on for one job and taken off.

Files in the styles of diffusers, PEFT, LightX2V, Kijai and Musubi are supported. A denoiser whose
adapters were taken off has the very weights that it had before: nothing is added and subtracted again.
"""

import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from diffusers.loaders.lora_pipeline import WanLoraLoaderMixin
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.errors import JobFailed
from wan_mcp.files import sha256_of
from wan_mcp.schema.plans import LoraPlan
from wan_mcp.weights.installed import ExtraFile

__all__ = ["Adapter", "JobAdapters", "experts", "fitted", "fuse_own", "own_adapters", "put_on", "read_adapter"]

log = logging.getLogger(__name__)

PREFIX = "transformer."
# Wan2.1's image to video models read the picture through layers that Wan2.2's do not have; the
# adapters of the former are used on the latter, without them.
DISPENSABLE = (".attn2.add_k_proj.", ".attn2.add_v_proj.", ".image_embedder.")
NAMED_KEYS = 3


@dataclass(frozen=True)
class Adapter:
    """An adapter as diffusers names its tensors."""

    name: str
    tensors: dict[str, Any]
    metadata: dict[str, Any] | None
    """Ranks and alphas, where the file brings them."""


def experts(manifest: Manifest, pipeline: Any) -> dict[str, Any]:
    """The denoisers of a loaded pipeline by the names that the manifest gives them."""
    if manifest.pipeline.experts:
        return {expert.name: getattr(pipeline, expert.subfolder) for expert in manifest.pipeline.experts}
    names = ("transformer", "transformer_2")
    return {name: part for name in names if (part := getattr(pipeline, name, None)) is not None}


def read_adapter(file: Path, name: str) -> Adapter:
    """Read an adapter from a safetensors file.

    Raises:
        JobFailed: it cannot be read, or is no adapter of a Wan model.
    """
    try:
        tensors = _with_known_prefix(load_file(file))
        with safe_open(file, framework="pt") as content:
            written = (content.metadata() or {}).get("lora_adapter_metadata")
        converted = dict(WanLoraLoaderMixin.lora_state_dict(tensors))
    except (OSError, SafetensorError) as error:
        raise JobFailed("lora_broken", f"The LoRA '{name}' cannot be read: {error}. Get the file again.") from error
    except (KeyError, ValueError, IndexError, AttributeError) as error:
        raise _no_adapter(name, load_file(file)) from error
    if not converted or not all(key.startswith(PREFIX) and ".lora_" in key for key in converted):
        raise _no_adapter(name, converted)
    return Adapter(name, converted, json.loads(written) if written else None)


def _with_known_prefix(tensors: dict[str, Any]) -> dict[str, Any]:
    """The tensors under names that say whose they are, as diffusers' converter needs it."""
    tensors = {key.removeprefix("base_model.model."): tensor for key, tensor in tensors.items()}
    if any(".attn1." in key or key.startswith("condition_embedder.") for key in tensors):
        return {key if key.startswith(PREFIX) else PREFIX + key: tensor for key, tensor in tensors.items()}
    if any(key.startswith("blocks.") for key in tensors):
        return {f"diffusion_model.{key}": tensor for key, tensor in tensors.items()}
    return tensors


def _no_adapter(name: str, tensors: Mapping[str, Any]) -> JobFailed:
    keys = ", ".join(list(tensors)[:NAMED_KEYS]) or "nothing"
    return JobFailed(
        "lora_unfit", f"'{name}' is no LoRA of a Wan model in a known style: it holds {keys}. Use one made for Wan."
    )


def fitted(adapter: Adapter, denoiser: Any, model: str) -> Adapter:
    """The adapter without what this denoiser can do without.

    Raises:
        JobFailed: it was made for another architecture; names some keys that do not match.
    """
    modules = dict(denoiser.named_modules())
    kept, wrong = {}, []
    for key, tensor in adapter.tensors.items():
        path, _, side = key.removeprefix(PREFIX).partition(".lora_")
        module = modules.get(path)
        if module is None and any(part in key for part in DISPENSABLE):
            continue
        if module is None:
            wrong.append(f"{path} (not in this model)")
        elif (asked := tensor.shape[1 if side.startswith("A") else 0]) != (has := _width(module, side)):
            wrong.append(f"{path} ({asked} wide, {has} here)")
        kept[key] = tensor
    if wrong or not kept:
        some = "; ".join(list(dict.fromkeys(wrong))[:NAMED_KEYS]) or "none of its layers is in this model"
        raise JobFailed(
            "lora_unfit",
            f"The LoRA '{adapter.name}' was made for another architecture than '{model}': "
            f"{len(wrong)} of {len(adapter.tensors)} tensors do not match: {some}. Use one made for this model.",
        )
    return Adapter(adapter.name, kept, adapter.metadata)


def _width(module: Any, side: str) -> int | None:
    names = ("in_features", "in_channels") if side.startswith("A") else ("out_features", "out_channels")
    return next((getattr(module, name) for name in names if hasattr(module, name)), None)


def put_on(denoiser: Any, adapters: Sequence[tuple[Adapter, float]]) -> None:
    """Put adapters with their scales beside the layers that they change, replacing those that were on."""
    names = [f"lora{number}" for number in range(len(adapters))]
    for name, (adapter, _) in zip(names, adapters, strict=True):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several at once are meant
            tensors = dict(adapter.tensors)
            denoiser.load_lora_adapter(tensors, prefix=PREFIX[:-1], adapter_name=name, metadata=adapter.metadata)
    denoiser.set_adapters(names, [scale for _, scale in adapters])


def own_adapters(manifest: Manifest, files: Mapping[tuple[str, str], ExtraFile]) -> tuple[dict[str, Any], ...]:
    """What a receipt says of the adapters that belong to a model."""
    return tuple(
        {
            "name": f"{lora.repository}/{lora.file}",
            "sha256": files[lora.repository, lora.file].sha256,
            "scale": lora.scale,
            "expert": expert.name,
        }
        for expert in manifest.pipeline.experts
        for lora in expert.lora
    )


def fuse_own(manifest: Manifest, pipeline: Any, files: Mapping[tuple[str, str], ExtraFile]) -> None:
    """Change the denoisers' weights by the adapters that the manifest gives them.

    Raises:
        JobFailed: one does not fit.
    """
    denoisers = experts(manifest, pipeline)
    for expert in manifest.pipeline.experts:
        if not expert.lora:
            continue
        read = [(read_adapter(files[lora.repository, lora.file].path, lora.file), lora.scale) for lora in expert.lora]
        denoiser = denoisers[expert.name]
        put_on(denoiser, [(fitted(adapter, denoiser, manifest.name), scale) for adapter, scale in read])
        denoiser.fuse_lora()
        denoiser.unload_lora()
        log.info("%s: %d LoRAs fused into %s", manifest.name, len(read), expert.name)


class Fuses(Protocol):
    """A denoiser whose weights are converted, so that adapters cannot lie beside them."""

    @property
    def layers(self) -> Any:
        """The same denoiser with the layers that it was made from, to fit adapters to."""

    def fuse(self, adapters: tuple[tuple[Adapter, str, float], ...]) -> None:
        """Have these adapters (each with its file's sha256 and its scale) in the weights, and no others."""


class JobAdapters:
    """The adapters that jobs bring: kept while the next job brings the same, else taken off."""

    def __init__(self, manifest: Manifest, pipeline: Any, converted: Mapping[str, Fuses] | None = None) -> None:
        """`converted` are those denoisers, by their experts' names, that adapters must be fused into."""
        self._model = manifest.name
        self._experts = experts(manifest, pipeline)
        self._converted = converted or {}
        self._on: tuple[LoraPlan, ...] | None = ()
        """None after a change that did not come to its end: whatever is on then, it is not what anybody asked for."""

    def change_for(self, loras: tuple[LoraPlan, ...]) -> bool:
        """Whether others are on than these: a change of converted weights reads the whole model."""
        return loras != self._on

    def use(self, loras: tuple[LoraPlan, ...]) -> None:
        """Have these adapters on, and no others.

        Raises:
            JobFailed: one is gone, was changed or does not fit.
        """
        if not self.change_for(loras):
            return
        read = [(lora, read_adapter(_unchanged(lora), lora.name)) for lora in loras]
        chosen = {name: self._chosen(name, read) for name in self._experts}
        worn, self._on = self._on, None
        for name, adapters in chosen.items():
            self._change(name, worn, adapters)
        self._on = loras

    def _change(
        self, name: str, worn: tuple[LoraPlan, ...] | None, adapters: Sequence[tuple[Adapter, str, float]]
    ) -> None:
        """Have these adapters on one expert, in place of those `worn`."""
        if name in self._converted:
            if adapters or worn is None or any(lora.expert in (None, name) for lora in worn):
                self._converted[name].fuse(tuple(adapters))
            return
        denoiser = self._experts[name]
        if getattr(denoiser, "peft_config", None):
            denoiser.unload_lora()
        if adapters:
            put_on(denoiser, [(adapter, scale) for adapter, _, scale in adapters])

    def _chosen(self, name: str, read: Sequence[tuple[LoraPlan, Adapter]]) -> list[tuple[Adapter, str, float]]:
        """The adapters for one expert, without what it can do without."""
        wanted = [(lora, adapter) for lora, adapter in read if lora.expert in (None, name)]
        if not wanted:
            return []
        layers = self._converted[name].layers if name in self._converted else self._experts[name]
        return [(fitted(adapter, layers, self._model), lora.sha256, lora.scale) for lora, adapter in wanted]


def _unchanged(lora: LoraPlan) -> Path:
    """The file of an adapter, if it still is what the job's plan says."""
    file = Path(lora.file)
    if not file.is_file():
        raise JobFailed("lora_missing", f"The LoRA {file.name} is gone since the job was submitted; submit it again.")
    if sha256_of(file) != lora.sha256:
        raise JobFailed(
            "lora_missing", f"The LoRA {file.name} was changed since the job was submitted; submit it anew."
        )
    return file
