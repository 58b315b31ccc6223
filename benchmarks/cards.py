"""What fits on which card, and how long it takes: `python -m benchmarks.cards`, and `make docs` for `docs/gpu.md`.

Placements are computed by the catalog's memory arithmetic. Seconds stand only where the results of benchmarks have
them: measured as they are, or computed from measured passes as an engine's estimates are.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import Placement, fits, largest_fitting, placement_for
from wan_mcp.catalog.presets import PresetName
from wan_mcp.catalog.quality import quality_of
from wan_mcp.catalog.sizes import Resolution
from wan_mcp.hardware.machine import Machine
from wan_mcp.schema.enums import ComputePrecision
from wan_mcp.schema.plans import Shape

__all__ = ["CARDS", "MODELS", "fit_table", "presets_table", "seconds_table"]

MIB = 1024 * 1024
CARDS: tuple[tuple[str, int, bool], ...] = (
    ("8 GB (RTX 4060)", 8_188, True),
    ("12 GB (RTX 4070)", 12_282, True),
    ("16 GB (RTX 4080)", 16_376, True),
    ("24 GB (RTX 3090)", 24_576, False),
    ("24 GB (RTX 4090)", 24_564, True),
    ("32 GB (RTX 5090)", 32_607, True),
    ("48 GB (L40S)", 46_068, True),
    ("80 GB (H100)", 81_559, True),
    ("141 GB (H200)", 143_771, True),
)
"""Cards: a name, the MiB that nvidia-smi lists, and whether they compute in FP8."""
MODELS = (
    "wan2.2-ti2v-5b",
    "wan2.2-t2v-a14b-4step",
    "wan2.1-t2v-1.3b",
    "z-image-turbo",
    "qwen-image-2512",
    "qwen3-vl-4b",
)
"""One of each kind; variants of a model place alike."""
WORDS = {
    Placement.RESIDENT_FP8: "on the card",
    Placement.RESIDENT_BF16: "on the card",
    Placement.SWAPPED: "one half at a time",
    Placement.OFFLOADED: "streamed",
}
RESULTS = Path(__file__).parent / "results"
OURS = "ours"


def fit_table() -> Iterator[str]:
    """Yield the rows of cards by models: where the weights are, and the largest result with its most frames."""
    manifests = [Catalog(shipped_folder()).manifests[name] for name in MODELS]
    yield "| card | " + " | ".join(f"`{manifest.name}`" for manifest in manifests) + " |"
    yield "|---" * (len(manifests) + 1) + "|"
    for name, mib, has_fp8 in CARDS:
        cells = (_fit(manifest, mib * MIB, has_fp8) for manifest in manifests)
        yield f"| {name} | {' | '.join(cells)} |"


def _fit(manifest: Manifest, memory: int, has_fp8: bool) -> str:
    precision: ComputePrecision = "fp8" if has_fp8 and manifest.can_be_fp8 else "bf16"
    if manifest.sizes is None:
        return "on the card" if fits(manifest, memory, precision, Shape(1, 1)) else "too large"
    largest = largest_fitting(manifest, memory, precision)
    if not largest:
        return "too large"
    by_name = {size.name: size for size in manifest.sizes.named}
    name = max(largest, key=lambda each: (by_name[each].width * by_name[each].height, largest[each]))
    size, frames = by_name[name], largest[name]
    shape = Shape(size.width, size.height, frames)
    where = WORDS[placement_for(manifest, memory, precision, shape)]
    return f"{where}; {_size(size)}" + (f", {frames} frames" if frames > 1 else "")


def _size(size: Resolution) -> str:
    return f"{size.width}×{size.height}"


def seconds_table() -> Iterator[str]:
    """Yield the rows of seconds on an H200, each marked as measured or computed."""
    measured = json.loads((RESULTS / "h200.json").read_text(encoding="utf-8"))["measured"]
    seconds: dict[tuple[str, str], float] = {
        (row["row"], row["shape"]): row["s"] for row in measured if row["who"] == OURS
    }
    yield "| model | result | steps | seconds | |"
    yield "|---|---|---|---|---|"
    catalog = Catalog(shipped_folder())
    full = catalog.manifests["wan2.2-t2v-a14b"]
    for shape, words in (("480x832x81", "832×480, 81 frames"), ("720x1280x81", "1280×720, 81 frames")):
        yield f"| `wan2.2-t2v-a14b-4step` | {words} | 4 | {seconds['video, 4 steps', shape]:.1f} | measured |"
        steps = full.defaults.steps
        whole = 2 * steps * seconds["forward", shape] + seconds["VAE decode", shape]
        yield f"| `wan2.2-t2v-a14b` | {words} | {steps} | {whole:.0f} | computed |"
    image = seconds["image, 8 steps", "720x1280x1"]
    yield f"| `wan2.2-t2v-a14b`, an image | 1280×720 | 8 | {image:.1f} | measured |"
    yield from _ti2v(catalog.manifests["wan2.2-ti2v-5b"])


def presets_table(model: str = "wan2.2-t2v-a14b") -> Iterator[str]:
    """Yield what each preset of a model runs, how close that is to the exact result, and its seconds on an H200."""
    measured = json.loads((RESULTS / "h200.json").read_text(encoding="utf-8"))["measured"]
    seconds = {(row["row"], row["shape"]): row["s"] for row in measured if row["who"] == OURS}
    [(_, mib, has_fp8)] = [card for card in CARDS if "H200" in card[0]]
    machine, catalog = Machine("GPU", "bf16", mib * MIB, has_fp8), Catalog(shipped_folder())
    yield "| preset | what runs | quality | 832×480, 81 frames | 1280×720, 81 frames |"
    yield "|---|---|---|---|---|"
    for name in get_args(PresetName):
        served = catalog.get(catalog.get(model).presets[name].model or model)
        preset = served.presets[name]
        steps, scale = (preset.values.get(each, getattr(served.defaults, each)) for each in ("steps", "guidance_scale"))
        passes = int(steps) * (2 if scale > 1 else 1)
        ways = [f"`{served.name}`", f"{steps:g} steps", *(["guidance"] if scale > 1 else [])]
        ways += ["turbo"] if preset.turbo else []
        precision = machine.precision_of(served, preset.precision)
        quality = quality_of(precision, cached=preset.step_cache is not None, sparse=preset.turbo)
        cells = [
            "not measured"
            if preset.turbo
            else f"{passes * seconds['forward', shape] + seconds['VAE decode', shape]:.0f} s"
            for shape in ("480x832x81", "720x1280x81")
        ]
        yield f"| `{name}` | {', '.join(ways)}, {precision} | {quality} | {' | '.join(cells)} |"


def emulated_table() -> Iterator[str]:
    """Yield the rows of `benchmarks.emulated_cards`; nothing while they were not measured."""
    file = RESULTS / "emulated_cards.json"
    if not file.exists():
        return
    found = json.loads(file.read_text(encoding="utf-8"))
    rows: list[dict[str, Any]] = [row for row in found["rows"] if "state" in row]
    links = {f"{row['link_gb_per_s']:.0f}" for row in rows if "link_gb_per_s" in row}
    yield f"On one {found['machine'].get('gpu', 'CPU')}, whose host link copies {', '.join(sorted(links))} GB/s:"
    yield ""
    yield "| card | model | precision | result | steps | warm s | at PCIe 4 ×16 | peak GPU GB | peak main GB |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for row in rows:
        seconds = [row.get(name) for name in ("warm_s", "computed_pcie4_s")]
        cells = [f"{each:.1f}" if each is not None else "–" for each in seconds]
        peaks = [f"{row[name]:.1f}" if name in row else "–" for name in ("gpu_peak_gb", "main_peak_gb")]
        precision = {"auto": "as the card has it", "full": "bf16"}.get(row["precision"], row["precision"])
        result = row["shape"] if row["state"] == "succeeded" else f"{row['shape']}: {row['state']}"
        cells = [row["card"], f"`{row['model']}`", precision, result, str(row["steps"]), *cells, *peaks]
        yield f"| {' | '.join(cells)} |"


def _ti2v(manifest: Manifest) -> Iterator[str]:
    rows: list[dict[str, Any]] = json.loads((RESULTS / "real_size.json").read_text(encoding="utf-8"))["rows"]
    [warm] = [row for row in rows if row["row"] == manifest.name and row.get("job") == 2]
    width, height, frames = warm["shape"].split("x")
    words = f"{width}×{height}, {frames} frames"
    yield f"| `{manifest.name}` | {words} | {warm['steps']} | {warm['first_seen_s']['done']:.1f} | measured |"
    after = warm["first_seen_s"]["done"] - warm["first_seen_s"]["decoding"]
    whole = warm["s_per_step"] * manifest.defaults.steps + after
    yield f"| `{manifest.name}` | {words} | {manifest.defaults.steps} | {whole:.0f} | computed |"


if __name__ == "__main__":
    print("\n".join([*fit_table(), "", *seconds_table(), "", *presets_table()]))  # noqa: T201
