"""What FP8 and compiled blocks cost the embedded model: its accuracy by the judge, beside full precision."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.h200.measuring import Sheet

COUNTS = {"one object": 180, "held out": 90, "pair": 60}  # of benchmarks.accuracy
JUDGES = 4
"""Processes: enough to keep up, and few enough to leave other sections of the benchmark alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    sheet = Sheet(options.out)
    with sheet.part("wan-mini"), TemporaryDirectory() as folder:
        measure(sheet, Path(folder), options.tiny)


def measure(sheet: Sheet, home: Path, tiny: bool) -> None:
    """The same prompts and seeds through both."""
    from concurrent.futures import ProcessPoolExecutor

    from diffusers import WanPipeline

    from benchmarks.accuracy import text_to_video
    from benchmarks.h200.forwards import compiled
    from wan_mcp.catalog.catalog import Catalog, shipped_folder
    from wan_mcp.engine.components.install import EMBEDDED, Installed
    from wan_mcp.engine.device.device import resolve_device
    from wan_mcp.engine.families.protocol import LoadContext
    from wan_mcp.engine.families.wan.loader import load_wan

    place = resolve_device("auto")
    counts = {test: max(1, count // 60) if tiny else count for test, count in COUNTS.items()}
    exact = WanPipeline.from_pretrained(EMBEDDED / "wan-mini", local_files_only=True, dtype=torch.float32)
    manifest = Catalog(shipped_folder()).get("wan-mini")
    model = load_wan(LoadContext(manifest, Installed(EMBEDDED / "wan-mini"), place, "fp8"))
    (denoiser,) = model.converted.values()
    compiled(denoiser, home, sheet)
    contenders = {"fp32, eager": exact.to(place.torch), "FP8, compiled": model.any_pipeline}
    with ProcessPoolExecutor(JUDGES) as pool:
        for who, pipeline in contenders.items():
            pipeline.set_progress_bar_config(disable=True)
            _same_twice(sheet, who, pipeline)
            sheet.fact(f"accuracy, {who}", text_to_video(pipeline, counts, 1, pool))


def _same_twice(sheet: Sheet, who: str, pipeline: Any) -> None:
    def run() -> Any:
        return pipeline(
            "a small red star drifts to the left over a navy background", height=128, width=128, num_frames=17,
            num_inference_steps=12, guidance_scale=3.0, max_sequence_length=48, output_type="latent",
            generator=torch.Generator("cpu").manual_seed(1),
        ).frames  # fmt: skip

    sheet.fact(f"{who}: the same twice", bool(torch.equal(run(), run())))


if __name__ == "__main__":
    main()
