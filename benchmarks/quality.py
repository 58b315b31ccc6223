"""What each precision, attention, cache and preset does to whole videos. `python -m benchmarks.quality`

Every variant makes the videos of the same prompts from the same seeds, and each video is compared with the exact one:
the model's best preset in full precision (fp32), with dense attention and no cache. Figures, each with the 95 %
confidence interval of its mean over the prompts (bootstrap):

- PSNR in dB (99 for the very same), SSIM over luma, and flicker, the change of the change from frame to frame in grey
  levels of 255, less that of the exact video: see `wan_mcp.media.likeness`.
- right: the share of videos in which the judge finds all that the prompt names, less that of the exact videos.
- LPIPS, where its weights are installed: see `benchmarks.perceptual`.

With `--device cuda` the model runs as on any GPU: its own precision (bf16) and FP8 with the kernels of the card. On a
CPU, bf16 is computed by torch, FP8 as `WAN_MCP_PRECISION=fp8` does it, and GGUF weights are rounded to the format's
values and multiplied in fp32. Writes `benchmarks/results/quality.json` after every few prompts.
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.accuracy import GUIDANCE, SIZE, TEXT_TOKENS, asked, prompts
from benchmarks.perceptual import NAME, Perceptual
from benchmarks.step_cache import EMBEDDED
from devkit.machine import hardware, versions
from smallworld.captions import Caption
from smallworld.judge import compare, look
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.attention import SparseCount, Turbo, attention_mode, choose_attention
from wan_mcp.engine.components.install import Installed
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.loader import WanModel, load_wan
from wan_mcp.engine.families.wan.step_cache import step_cache
from wan_mcp.media.likeness import SAME_DB, flicker, interval, psnr, ssim
from wan_mcp.schema.enums import ComputePrecision, RequestedPrecision, Task
from wan_mcp.schema.plans import StepCache
from wan_mcp.text import first_line

RESULT = Path("benchmarks/results/quality.json")
FRAMES, BEST_STEPS = 9, 20
SAVE_EVERY = 5  # prompts
Clip = NDArray[np.uint8]


@dataclass(frozen=True)
class Variant:
    """One way to make a video."""

    name: str
    precision: ComputePrecision = "fp32"
    steps: int = BEST_STEPS
    threshold: float | None = None
    """Of the step cache."""
    turbo: bool = False
    gguf: str | None = None
    """A format of GGUF files."""


EXACT = Variant("exact: fp32, dense, no cache, 20 steps")
ON_CPU = (
    EXACT,
    Variant("bf16", "bf16"),
    Variant("fp8", "fp8"),
    Variant("fp8, turbo", "fp8", turbo=True),
    Variant("gguf q8_0", gguf="Q8_0"),
    Variant("gguf q4_0", gguf="Q4_0"),
    Variant("step cache 0.075", threshold=0.075),
    Variant("step cache 0.1", threshold=0.1),
    Variant("preset standard, 12 steps", steps=12),
    Variant("preset draft, 6 steps", steps=6),
)
ON_GPU = (
    EXACT,
    Variant("bf16", "bf16"),
    Variant("bf16, step cache 0.075", "bf16", threshold=0.075),
    *(replace(each, name=f"fp8{rest}", precision="fp8") for each, rest in (
        (Variant(""), ""), (Variant("", threshold=0.075), ", step cache 0.075"),
        (Variant("", threshold=0.1), ", step cache 0.1"),
        (Variant("", steps=12), ", preset standard, 12 steps"), (Variant("", steps=6), ", preset draft, 6 steps"),
    )),
)  # fmt: skip
"""On a GPU the exact videos are still those of a CPU in fp32. Attention in FP8 and turbo are for long sequences there;
those of this model are too short."""


class Models:
    """The model in each precision, loaded once."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._cpu = device if not device.is_cuda else resolve_device("cpu")
        self._manifest = Manifest.read(shipped_folder() / "wan-mini.toml")
        self._loaded: dict[tuple[ComputePrecision, str | None], WanModel] = {}

    def of(self, variant: Variant) -> WanModel:
        """Return the model that a variant needs."""
        key = variant.precision, variant.gguf
        if key not in self._loaded:
            device = self._cpu if variant.precision == "fp32" else self._device
            if variant.precision == "bf16":
                device = replace(device, precision="bf16")
            requested: RequestedPrecision = "fp8" if variant.precision == "fp8" else "full"
            model = load_wan(LoadContext(self._manifest, Installed(EMBEDDED), device, requested=requested))
            if variant.gguf is not None:
                _round_to(model, variant.gguf)
            self._loaded[key] = model
        return self._loaded[key]


def _round_to(model: WanModel, kind: str) -> None:
    """Round the weights of a model's blocks to the values that a GGUF format can hold."""
    import gguf

    form = gguf.GGMLQuantizationType[kind]
    for block in model.blocks:
        for layer in block.modules():
            if isinstance(layer, torch.nn.Linear) and layer.in_features % 32 == 0:
                rounded = gguf.dequantize(gguf.quantize(layer.weight.detach().numpy(), form), form)
                layer.weight.data = torch.from_numpy(rounded.reshape(tuple(layer.weight.shape)).copy())


def make(model: WanModel, variant: Variant, text: str, seed: int) -> Clip:
    """Return a clip [T, H, W, 3]."""
    # Sequences of this model are short, so a kernel is chosen for its device and precision by the engine's own rule.
    choose_attention(model.device.torch, head_dim=model.denoisers[0].config.attention_head_dim)
    config = None if variant.threshold is None else StepCache(threshold=variant.threshold)
    turbo = Turbo() if variant.turbo else None
    count = SparseCount()
    grid = ((FRAMES - 1) // 4 + 1, SIZE[1] // 16, SIZE[0] // 16)
    with step_cache(model.denoisers, config), attention_mode(turbo, grid=grid, count=count) as mode:

        def end_step(pipeline: Any, index: int, timestep: Any, values: dict[str, Any]) -> dict[str, Any]:
            mode.step = index + 1
            return {}

        frames = model.pipelines[Task.TEXT_TO_VIDEO](
            prompt=text, height=SIZE[1], width=SIZE[0], num_frames=FRAMES, num_inference_steps=variant.steps,
            guidance_scale=GUIDANCE, max_sequence_length=TEXT_TOKENS, output_type="np",
            generator=torch.Generator("cpu").manual_seed(seed), callback_on_step_end=end_step,
        ).frames[0]  # fmt: skip
    if turbo is not None and not count.sparse:
        raise RuntimeError(f"{variant.name}: no attention was sparse")
    clip: Clip = (np.asarray(frames, np.float32) * 255).round().astype(np.uint8)
    return clip


def right(told: Caption, clip: Clip) -> float:
    """Return 1 if the judge finds all that the prompt names, else 0."""
    return float(compare(asked(told.named), look(clip)).all_right)


def measure(
    device: Device, variants: tuple[Variant, ...], told: list[Caption], minutes: float,
    keep: Callable[[list[dict[str, Any]]], None],
) -> None:  # fmt: skip
    """Make all videos, prompt by prompt, so that a run that is cut short has all variants of fewer prompts."""
    models, until, perceptual = Models(device), time.monotonic() + 60 * minutes, Perceptual.found()
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    failed: dict[str, str] = {}
    for seed, each in enumerate(told):
        began = time.perf_counter()
        exact = make(models.of(EXACT), EXACT, each.text, seed)
        exact_s, truth = time.perf_counter() - began, right(each, exact)
        for variant in variants:
            if variant.name in failed:
                continue
            began = time.perf_counter()
            try:
                clip = exact if variant is EXACT else make(models.of(variant), variant, each.text, seed)
            except Exception as error:  # a kernel that a card lacks costs its own row
                failed[variant.name] = first_line(error)
                continue
            figures = found[variant.name]
            figures["seconds"].append(exact_s if variant is EXACT else time.perf_counter() - began)
            figures["psnr_db"].append(psnr(clip, exact))
            figures["ssim"].append(ssim(clip, exact))
            if perceptual is not None:
                figures["lpips"].append(perceptual.distance(clip, exact))
            figures["flicker"].append(flicker(clip) - flicker(exact))
            figures["right"].append(right(each, clip))
            figures["right_less_exact"].append(figures["right"][-1] - truth)
        if (last := seed + 1 == len(told) or time.monotonic() > until) or (seed + 1) % SAVE_EVERY == 0:
            rows = [_row(variant, found[variant.name]) for variant in variants if variant.name not in failed]
            keep([*rows, *({"variant": name, "failed": why} for name, why in failed.items())])
        if last:
            return


def _row(variant: Variant, figures: dict[str, list[float]]) -> dict[str, Any]:
    seconds = figures["seconds"]
    means = {name: interval(values) for name, values in figures.items() if name != "seconds"}
    same = sum(value == SAME_DB for value in figures["psnr_db"])
    return {"variant": variant.name, "videos": len(seconds), "same_bits": same, **means,
            "seconds_median": round(float(np.median(seconds)), 3)}  # fmt: skip


def main() -> None:
    """Measure and write."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--prompts", type=int, default=100)
    arguments.add_argument("--minutes", type=float, default=60, help="stop after the prompt that passes this time")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--threads", type=int, default=0)
    arguments.add_argument("--out", type=Path, default=RESULT)
    options = arguments.parse_args()
    device = resolve_device(options.device, options.threads)

    def keep(rows: list[dict[str, Any]]) -> None:
        found = {
            "hardware": hardware(device.torch), "versions": versions(), "model": "wan-mini",
            "settings": {"size": SIZE, "frames": FRAMES, "guidance_scale": GUIDANCE},
            "lpips": NAME if Perceptual.found() else "not measured: install stlpips-pytorch", "rows": rows,
        }  # fmt: skip
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        sys.stderr.write(f"{rows[0]['videos']} prompts\n")

    variants = ON_GPU if device.is_cuda else ON_CPU
    measure(device, variants, prompts(options.prompts, "seen"), options.minutes, keep)


if __name__ == "__main__":
    main()
