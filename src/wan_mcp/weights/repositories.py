"""The sources of a model's weights: its own repository, and those of its adapters and GGUF files.

Each source is fetched, locked and checked like a separate model; to people they are one model.
"""

from wan_mcp.catalog.manifest import Manifest, Weights

__all__ = ["FurtherWeights", "sources"]


class FurtherWeights(Weights):
    """The weights of a model from a repository other than its own."""


def sources(manifest: Manifest) -> tuple[Manifest, ...]:
    """Return a hub model once for each repository that it needs, its own first; nothing for an embedded model."""
    if manifest.weights.repository is None:
        return ()
    wanted: dict[str, list[str]] = {}
    for repository, file in (each for expert in manifest.pipeline.experts for each in expert.extra_files):
        if file not in wanted.setdefault(repository, []):
            wanted[repository].append(file)
    further = (FurtherWeights(repository=name, files=tuple(files), disk_bytes=0) for name, files in wanted.items())
    return (manifest, *(manifest.model_copy(update={"weights": weights}) for weights in further))
