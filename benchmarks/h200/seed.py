"""The recipe that public demos of Wan2.2 run: torchao's FP8 and compiled blocks, in a process of its own."""

import argparse
import time
from functools import partial
from pathlib import Path

from benchmarks.h200.measuring import Sheet, seconds


def measure(sheet: Sheet, tiny: bool) -> None:
    """Forwards of one expert in bf16, and then quantized and compiled."""
    from benchmarks.h200 import models

    model = models.denoiser(tiny)
    for name, times in (("480p", 2),):
        size = models.shape(name, tiny)
        latents, moment, text = models.inputs(size, tiny)
        run = partial(model, latents, moment, text, return_dict=False)
        sheet.measured("forward", models.written(size), "diffusers, bf16, beside the recipe", seconds(run, times))
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    recipe = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow(), set_inductor_config=False)
    quantize_(model.blocks, recipe)
    model.compile_repeated_blocks(fullgraph=True, dynamic=True)
    for name, times in (("480p", 3), ("720p", 2), ("image", 4)):
        with sheet.part(f"recipe {name}"):
            size = models.shape(name, tiny)
            latents, moment, text = models.inputs(size, tiny)
            run = partial(model, latents, moment, text, return_dict=False)
            began = time.perf_counter()
            first = seconds(run, 1, 0)
            sheet.fact(f"recipe {name}: first forward with its compilation s", round(time.perf_counter() - began, 1))
            sheet.measured(
                "forward", models.written(size), "torchao FP8, compiled", seconds(run, times, 0), first=first
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    sheet = Sheet(options.out)
    with sheet.part("recipe"):
        measure(sheet, options.tiny)


if __name__ == "__main__":
    main()
