"""One forward of a denoiser: diffusers as it comes, and ours; then what FP8 costs in exactness, layer by layer."""

import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.h200 import models
from benchmarks.h200.measuring import Sheet, run_section, seconds
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.attention import Turbo, attention_in_use, attention_mode
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.acceleration import Acceleration
from wan_mcp.engine.families.wan.denoiser import Denoiser, DenoiserSource, load_denoiser
from wan_mcp.engine.families.wan.precision import block_kinds
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.settings import Settings

MANIFEST = "wan2.2-t2v-a14b"
PACKAGE_S = 240
BLOCKS_BOUND = 80


def ours(tiny: bool, *, realistic: bool = False) -> Denoiser:
    """An expert through our loader: converted block by block."""

    def load() -> Any:
        model = models.denoiser(tiny)
        if realistic:
            models.outliers(model)
        return model

    config = models.denoiser(True).config if tiny else _config()
    manifest = Catalog(shipped_folder()).get(MANIFEST)
    place = resolve_device("auto")
    kinds = block_kinds(manifest, config, FP8, place.dtype, temb_per_token=False)
    assert kinds is not None
    return load_denoiser(DenoiserSource("random", config, load, "random"), kinds, place, None)


def _config() -> Any:
    from wan_mcp.engine.families.wan.denoiser import blank_denoiser

    return blank_denoiser(models.A14B).config


def compiled(denoiser: Denoiser, home: Path, sheet: Sheet, beside: str = ", beside other work") -> Acceleration:
    """Have the blocks compiled and bound, and say how long that took and how large it is."""
    tuning = Acceleration(Settings(home=home), resolve_device("auto"))
    tuning.prepare([denoiser.blocks])  # chooses attention, has the build begin, and returns
    began = time.perf_counter()
    kinds = len(denoiser.blocks.kinds)
    while len(list((home / "packages").glob("*.json"))) < kinds and time.perf_counter() - began < PACKAGE_S:
        time.sleep(0.2)
        tuning.prepare([denoiser.blocks])
    sheet.fact(f"package: build s, with its proof{beside}", round(time.perf_counter() - began, 1))
    files = list((home / "packages").glob("*.pt2"))
    sheet.fact("package: number", len(files))
    sheet.fact("package: MB", [round(file.stat().st_size / 1e6, 2) for file in files])
    began = time.perf_counter()
    tuning.prepare([denoiser.blocks])
    sheet.fact("package: load s", round(time.perf_counter() - began, 4))
    sheet.fact("runs compiled", tuning.describe(denoiser.blocks.kinds))
    return tuning


def measure(sheet: Sheet, tiny: bool) -> None:
    """All forwards, contenders one after the other for each shape."""
    eager = models.denoiser(tiny)
    mine = ours(tiny)
    with TemporaryDirectory() as folder:
        tuning = compiled(mine, Path(folder), sheet)
        sheet.fact("attention", attention_in_use())
        for name, times in (("480p", 3), ("image", 5), ("720p", 2)):
            size = models.shape(name, tiny)
            latents, moment, text = models.inputs(size, tiny)
            with sheet.part(f"forward {name}"):
                quick = partial(mine.model, latents, moment, text, return_dict=False)
                plain = partial(eager, latents, moment, text, return_dict=False)
                sheet.measured("forward", models.written(size), "ours", seconds(quick, times))
                sheet.measured("forward", models.written(size), "diffusers, bf16", seconds(plain, times))
                sheet.measured("forward", models.written(size), "ours, again", seconds(quick, times, 0))
            if name != "image":
                with sheet.part(f"turbo {name}"):
                    _turbo(sheet, mine, size, tiny)
        tuning.close()


def _turbo(sheet: Sheet, mine: Denoiser, size: tuple[int, int, int], tiny: bool) -> None:
    latents, moment, text = models.inputs(size, tiny)
    _, _, frames, rows, columns = latents.shape
    dense = mine.model(latents, moment, text, return_dict=False)[0].float()
    with attention_mode(Turbo(), grid=(frames, rows // 2, columns // 2)) as mode:
        mode.step = 1
        run = partial(mine.model, latents, moment, text, return_dict=False)
        sheet.measured("forward", models.written(size), "ours, turbo", seconds(run, 2), density=Turbo().density)
        sparse = run()[0].float()
    sheet.fact(f"turbo {models.written(size)}: relative difference on random weights", _apart(sparse, dense))


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return round(float((one - other).norm() / other.norm()), 5)


@torch.no_grad()
def exactness(sheet: Sheet, tiny: bool) -> None:
    """Every block of a denoiser with outlier channels, in FP8 with all that is quick, against bf16 in diffusers."""
    eager = models.denoiser(tiny)
    models.outliers(eager)
    mine = ours(tiny, realistic=True)
    size = models.shape("480p", tiny)
    latents, moment, text = models.inputs(size, tiny)
    seen: list[tuple[Any, Any]] = []
    hooks = [
        block.register_forward_hook(lambda _, given, result: seen.append((given, result))) for block in eager.blocks
    ]
    eager(latents, moment, text, return_dict=False)
    for hook in hooks:
        hook.remove()
    rotary, words = mine.model.rope(latents), mine.model.condition_embedder.text_embedder(text)
    rows = []
    for number, ((hidden, _, times, _), result) in enumerate(seen):
        made = mine.model.blocks[number](hidden, words, times, rotary).float()
        channels = hidden.float().square().mean((0, 1)).sqrt()
        cosine = torch.nn.functional.cosine_similarity(made.flatten(), result.float().flatten(), 0)
        rows.append(
            {
                "block": number,
                "relative": _apart(made, result.float()),
                "of_its_change": _apart(made - hidden.float(), result.float() - hidden.float()),
                "cosine": round(float(cosine), 6),
                "largest_channel_over_median": round(float(channels.max() / channels.median()), 1),
            }
        )
    sheet.fact("block error, worst", max(rows, key=lambda row: row["relative"]))
    sheet.fact("block error, median", round(sorted(row["relative"] for row in rows)[len(rows) // 2], 5))
    sheet.fact("block error", rows)


def package(sheet: Sheet, tiny: bool) -> None:
    """A package as it is built for the first job of a new home, with nothing else to do."""
    with TemporaryDirectory() as folder:
        compiled(ours(tiny), Path(folder), sheet, beside=", alone").close()


if __name__ == "__main__":
    run_section(__doc__, {"forwards": measure, "exactness": exactness, "package": package})
