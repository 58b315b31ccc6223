"""What leaving passes out does to wan-mini's videos, against simply fewer steps. `python -m benchmarks.step_cache`

Every variant is held against the full run of as many steps from the same seed: peak signal-to-noise ratio of the
frames, how many passes ran all blocks, and how many videos the judge finds to be what the prompt says. Writes
`benchmarks/results/step_cache.json`.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy import FRAMES, GUIDANCE, SIZE, TEXT_TOKENS, asked, prompts
from devkit.machine import hardware, versions
from smallworld.captions import Caption
from smallworld.judge import compare, look
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import Installed
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.step_cache import step_cache
from wan_mcp.media.likeness import psnr
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import StepCache

EMBEDDED = Path("src/wan_mcp/embedded/wan-mini")
RESULT = Path("benchmarks/results/step_cache.json")
STEPS = (20, 30)
THRESHOLDS = (0.05, 0.075, 0.1, 0.15)
FEWER = (0.8, 0.65, 0.5)
"""Shares of the steps, for runs of about as many full passes as the cached ones."""
Clips = list[NDArray[np.uint8]]


def clips(model: WanModel, told: list[Caption], steps: int, threshold: float | None) -> tuple[Clips, int]:
    """A video [T, H, W, 3] of each prompt from its own seed, and how many passes ran all blocks."""
    made, full = [], 0
    config = None if threshold is None else StepCache(threshold=threshold)
    for seed, each in enumerate(told):
        with step_cache(model.denoisers, config) as count:
            frames = model.pipelines[Task.TEXT_TO_VIDEO](
                prompt=each.text, height=SIZE[1], width=SIZE[0], num_frames=FRAMES, num_inference_steps=steps,
                guidance_scale=GUIDANCE, max_sequence_length=TEXT_TOKENS, output_type="np",
                generator=torch.Generator("cpu").manual_seed(seed),
            ).frames[0]  # fmt: skip
        made.append((frames * 255).round().astype(np.uint8))
        full += 2 * steps if config is None else count.full
    return made, full


def measure(model: WanModel, told: list[Caption], steps: int, keep: Callable[[dict[str, Any]], None]) -> None:
    """All variants of one number of steps."""
    whole, passes = clips(model, told, steps, None)
    variants: list[tuple[int, float | None]] = [(steps, threshold) for threshold in THRESHOLDS]
    variants += [(round(steps * share), None) for share in FEWER]
    for taken, threshold in [(steps, None), *variants]:
        made, full = (whole, passes) if (taken, threshold) == (steps, None) else clips(model, told, taken, threshold)
        likeness = [psnr(one, other) for one, other in zip(made, whole, strict=True)]
        right = [compare(asked(each.named), look(clip)).all_right for each, clip in zip(told, made, strict=True)]
        keep(
            {
                "against_steps": steps,
                "steps": taken,
                "threshold": threshold,
                "full_passes": round(full / passes, 3),
                "psnr_db": {
                    "mean": round(float(np.mean(likeness)), 1),
                    "median": round(float(np.median(likeness)), 1),
                    "least": round(min(likeness), 1),
                },
                "all_right": sum(right),
                "videos": len(made),
            }
        )


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--videos", type=int, default=12)
    arguments.add_argument("--threads", type=int, default=os.cpu_count())
    arguments.add_argument("--out", type=Path, default=RESULT)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    device = resolve_device("cpu")
    model = load_wan(LoadContext(Manifest.read(shipped_folder() / "wan-mini.toml"), Installed(EMBEDDED), device))
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        sys.stderr.write(json.dumps(row) + "\n")
        found = {"hardware": hardware(device.torch), "versions": versions(), "rows": rows}
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    told = prompts(options.videos, "seen")
    for steps in STEPS:
        measure(model, told, steps, keep)


if __name__ == "__main__":
    main()
