"""The table of the hub models in docs/models.md; `python -m tests.hub.models_table` renews it."""

from collections.abc import Iterator
from pathlib import Path

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.text import in_bytes

__all__ = ["PAGE", "table"]

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
BEGIN, END = "<!-- table: made from the manifests -->\n", "<!-- end of the table -->\n"


def table() -> str:
    """The table as it must stand in the page."""
    return "\n".join(_rows()) + "\n"


def _rows() -> Iterator[str]:
    yield "| model | does | sizes | frames | steps | download | memory | licence |"
    yield "|---|---|---|---|---|---|---|---|"
    for _, manifest in sorted(Catalog(shipped_folder()).manifests.items()):
        if manifest.weights.repository is not None:
            yield f"| {' | '.join(_cells(manifest))} |"


def _cells(manifest: Manifest) -> Iterator[str]:
    weights, frames, sizes = manifest.weights, manifest.frames, manifest.sizes
    yield f"`{manifest.name}`<br>{weights.repository}"
    yield ", ".join(manifest.tasks)
    yield ", ".join(f"{r.width}×{r.height}" for r in sizes.named) if sizes else ""
    yield f"up to {frames.maximum} at {frames.fps:g} fps" if frames else ""
    yield str(manifest.defaults.steps) if sizes else ""
    yield in_bytes(weights.disk_bytes)
    yield ", ".join(f"{name} {in_bytes(count)}" for name, count in weights.memory_bytes.items())
    marks = [
        word
        for word, is_so in (("gated", manifest.licence.gated), ("conditions", manifest.licence.conditions))
        if is_so
    ]
    yield manifest.licence.id + (f" ({', '.join(marks)})" if marks else "")


def renewed(page: str) -> str:
    """The page with the table of today."""
    before, rest = page.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
