"""LoRAs on a model's denoisers: fused for good, or put on for one job and taken off.

A denoiser whose adapters were taken off has the very weights that it had before: nothing is added and subtracted again.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.families.wan.lora_adapter import FIRST, SECOND, Adapter, AdapterFile, fitted, read_adapter
from wan_mcp.engine.families.wan.lora_injection import Patched, patch, put_on, restore
from wan_mcp.errors import JobFailed
from wan_mcp.files import sha256_of
from wan_mcp.schema.plans import LoraPlan
from wan_mcp.weights.installed import ExtraFile

__all__ = ["JobAdapters", "experts", "fuse_own", "own_adapters"]

log = logging.getLogger(__name__)


def experts(manifest: Manifest, pipeline: Any) -> dict[str, Any]:
    """Return the denoisers of a loaded pipeline by their names in the manifest."""
    return {name: getattr(pipeline, part) for name, part in _parts(manifest, pipeline).items()}


def _parts(manifest: Manifest, pipeline: Any) -> dict[str, str]:
    """Return the names of a pipeline's denoisers in it, by their names in the manifest."""
    if manifest.pipeline.experts:
        return {expert.name: expert.subfolder for expert in manifest.pipeline.experts}
    return {name: name for name in (FIRST, SECOND) if getattr(pipeline, name, None) is not None}


def own_adapters(manifest: Manifest, files: Mapping[tuple[str, str], ExtraFile]) -> tuple[dict[str, Any], ...]:
    """Return what a receipt says of the adapters that belong to a model."""
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
        denoiser = denoisers[expert.name]
        read = []
        for lora in expert.lora:
            file = read_adapter(files[lora.repository, lora.file].path, lora.file)
            read.append((fitted(file.for_part(expert.subfolder), denoiser, manifest.name), lora.scale))
        patch(denoiser, read)
        put_on(denoiser, read)
        denoiser.fuse_lora()
        denoiser.unload_lora()
        log.info("%s: %d LoRAs fused into %s", manifest.name, len(read), expert.name)


class Fuses(Protocol):
    """A denoiser whose weights are converted, so that adapters cannot be kept next to them."""

    @property
    def layers(self) -> Any:
        """The same denoiser with the layers that it was made from, to fit adapters to."""

    def fuse(self, adapters: tuple[tuple[Adapter, str, float], ...]) -> None:
        """Have these adapters (each with its file's sha256 and its scale) in the weights, and no others."""


class JobAdapters:
    """The adapters that jobs bring: kept while the next job brings the same, else taken off."""

    def __init__(self, manifest: Manifest, pipeline: Any, converted: Mapping[str, Fuses] | None = None) -> None:
        """Change a pipeline; `converted` are its denoisers that adapters are fused into, by their experts' names."""
        self._model = manifest.name
        self._parts = _parts(manifest, pipeline)
        self._experts = experts(manifest, pipeline)
        self._converted = converted or {}
        self._patched: dict[str, Patched] = {name: [] for name in self._experts}
        self._on: tuple[LoraPlan, ...] | None = ()
        """None after a change that did not come to its end: whatever is on then, it is not what anybody asked for."""
        self.notes: tuple[str, ...] = ()
        """What the adapters that are on bring and this model has no use for, in sentences."""

    def change_for(self, loras: tuple[LoraPlan, ...]) -> bool:
        """Check whether others are on than these: a change of converted weights reads the whole model."""
        return loras != self._on

    def use(self, loras: tuple[LoraPlan, ...]) -> None:
        """Have these adapters on, and no others.

        Raises:
            JobFailed: one is gone, was changed or does not fit.
        """
        if not self.change_for(loras):
            return
        read = [(lora, read_adapter(_unchanged(lora), lora.name)) for lora in loras]
        for lora, file in read:
            self._require_experts(lora, file)
        chosen = {name: self._chosen(name, read) for name in self._experts}
        worn, self._on = self._on, None
        for name, adapters in chosen.items():
            self._change(name, worn, adapters)
        self._on = loras
        left_out = {adapter.name: adapter.left_out for each in chosen.values() for adapter, _, _ in each}
        self.notes = tuple(
            f"LoRA '{name}': {len(layers)} layers that read a start image, such as {layers[0]}, are not in "
            f"'{self._model}' and were left out"
            for name, layers in left_out.items()
            if layers
        )

    def _require_experts(self, lora: LoraPlan, file: AdapterFile) -> None:
        """Refuse a file for denoisers that the model, or the choice of the request, does not include."""
        if not file.experts:
            return
        wanted = [part for name, part in self._parts.items() if lora.expert in (None, name)]
        missing = file.experts - set(self._parts.values())
        if missing or not file.experts & set(wanted):
            here = ", ".join(f"{name} ({part})" for name, part in self._parts.items())
            chosen = f", and expert is {lora.expert}" if lora.expert is not None else ""
            raise JobFailed(
                "lora_unfit",
                f"The LoRA '{lora.name}' was made for {' and '.join(sorted(file.experts))}, as its keys say; "
                f"'{self._model}' has {here}{chosen}. Use another file, or another expert.",
            )

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
        restore(self._patched[name])
        if adapters:
            scaled = [(adapter, scale) for adapter, _, scale in adapters]
            patch(denoiser, scaled, self._patched[name])
            put_on(denoiser, scaled)

    def _chosen(self, name: str, read: Sequence[tuple[LoraPlan, AdapterFile]]) -> list[tuple[Adapter, str, float]]:
        """Return the adapters for one expert, without those that it does not need."""
        wanted = [(lora, file.for_part(self._parts[name])) for lora, file in read if lora.expert in (None, name)]
        wanted = [(lora, adapter) for lora, adapter in wanted if adapter]
        if not wanted:
            return []
        layers = self._converted[name].layers if name in self._converted else self._experts[name]
        return [(fitted(adapter, layers, self._model), lora.sha256, lora.scale) for lora, adapter in wanted]


def _unchanged(lora: LoraPlan) -> Path:
    """Return the file of an adapter, if it is still what the job's plan says."""
    file = Path(lora.file)
    if not file.is_file():
        raise JobFailed("lora_missing", f"The LoRA {file.name} is gone since the job was submitted; submit it again.")
    if sha256_of(file) != lora.sha256:
        raise JobFailed(
            "lora_missing", f"The LoRA {file.name} was changed since the job was submitted; submit it again."
        )
    return file
