"""What models of real size do on cards that people own: 24, 16 and 12 GB, emulated on a large one (`emulated_card`).

    python -m benchmarks.emulated_cards                # the table: one GPU of 80 GB, less than 8 minutes
    python -m benchmarks.emulated_cards --tries 50     # jobs of random kinds and sizes, none of which may run out
    python -m benchmarks.emulated_cards --tiny         # the same script in minutes, on any CPU

Speed is that of the GPU at hand. The rate of its host link is measured, and seconds at PCIe 4 x16 are computed: a step
lasts as long as its arithmetic, or as what it streams. Rows with the precision `full` stand for Ampere cards, which do
not compute in FP8. Weights are random.
"""

import argparse
import json
import os
import random
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import anyio
from PIL import Image

from benchmarks.emulated_card import CARDS_MIB, GB, Peaks, emulate, held, link_rate, tell_engines
from benchmarks.first_minutes import MEMORY
from benchmarks.h200.engine import MODEL, end_engine, prepare, video
from benchmarks.h200.measuring import Sheet
from benchmarks.real_size import Watch, be_the_engine
from benchmarks.real_weights import lock_weights, write_ti2v_5b
from benchmarks.records import RESULTS, keep
from benchmarks.small_weights import write_klein, write_z_image
from benchmarks.without_gpu import Group, enter_group
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.catalog.memory_fit import denoiser_bytes
from wan_mcp.errors import UserError
from wan_mcp.schema.enums import JobState
from wan_mcp.schema.requests import ImageRequest, Request, VideoRequest
from wan_mcp.service.service import JobView, serving
from wan_mcp.settings import Settings

PCIE4_X16 = 24_000_000_000
"""Bytes per second of copies from pinned memory, of 31.5 in theory."""
LIMIT_S = 455
"""No row begins later."""
JOB_S, PACKAGE_S, PATIENCE_S = 240, 120, 10
TI2V, Z_IMAGE, KLEIN = "wan2.2-ti2v-5b", "z-image-turbo", "flux2-klein-4b"
WRITERS: dict[str, Callable[..., None]] = {TI2V: write_ti2v_5b, Z_IMAGE: write_z_image, KLEIN: write_klein}
ENGINE = (sys.executable, "-m", "benchmarks.emulated_cards", "--engine")
RESIDENT = re.compile(r"(\d+) of (\d+) blocks stay on the device")


class Row(NamedTuple):
    """What to measure."""

    model: str
    card: str | None
    """Of `CARDS_MIB`; None for the whole GPU."""
    host_gb: int
    precision: Any = "auto"
    jobs: int = 2
    package: bool = False
    """Whether to wait for the package after the first job, and to say when it was there."""


ROWS = (
    Row(MODEL, "24 GB", 64, jobs=3, package=True),
    Row(MODEL, "16 GB", 64),
    Row(MODEL, "12 GB", 64),
    Row(MODEL, None, 128),
    Row(KLEIN, "12 GB", 32),
    Row(TI2V, "12 GB", 32),
    Row(Z_IMAGE, "12 GB", 32),
    Row(TI2V, "24 GB", 64, precision="full"),
    Row(MODEL, "24 GB", 96, precision="full", jobs=1),
)
"""In the order of their worth; rows of one model share its weights and its home."""


def request_for(model: str, seed: int, *, tiny: bool) -> Request:
    """Return the job of a row."""
    if model == MODEL:
        return video("480p", tiny, seed)
    if model == TI2V:
        shape: dict[str, Any] = {"resolution": "96x96", "num_frames": 5} if tiny else {}
        return VideoRequest(prompt="a red circle moving left", model=model, steps=8, seed=seed, **shape)
    size = {"resolution": "64x64"} if tiny else {}
    return ImageRequest(prompt="a red circle", model=model, seed=seed, **size)


def settings_for(row: Row, home: Path) -> Settings:
    """Return the settings of a row, and tell engines their card."""
    tell_engines(row.card, row.host_gb * GB)
    return Settings(
        home=home, engine_idle_s=300, min_free_mb=1, engine_command=shlex.join(ENGINE), precision=row.precision
    )


async def jobs_of(settings: Settings, row: Row, *, tiny: bool) -> list[tuple[JobView, Watch, float | None]]:
    """Run the jobs of a row on one engine; with what was seen of each, and when a package was there after the first."""
    found: list[tuple[JobView, Watch, float | None]] = []
    async with serving(settings) as service:
        for seed in range(row.jobs):
            watch, built = Watch(), None

            async def look(view: JobView, watch: Watch = watch) -> None:
                watch.see(view.job.progress)

            view = await service.submit(request_for(row.model, seed, tiny=tiny))
            view = await service.wait(view.job.id, JOB_S, look)
            watch.end()
            if row.package and seed == 0 and not tiny:
                began = time.perf_counter()
                with anyio.move_on_after(PACKAGE_S):
                    while not list((settings.home / "packages").glob("*.json")):  # noqa: ASYNC110 - of a process
                        await anyio.sleep(0.2)
                    built = round(time.perf_counter() - began, 1)
            found.append((view, watch, built))
            if view.job.state is not JobState.SUCCEEDED:
                break
    return found


def measure(row: Row, home: Path, *, tiny: bool) -> dict[str, Any]:
    """Return what a model does on a card."""
    manifest = Catalog.of(home).get(row.model)
    with held(row.card) as free:
        settings = settings_for(row, home)
        group = Group(row.host_gb * GB)
        os.environ.pop("WITHOUT_GPU_GROUP", None)
        if group.folder is not None:
            os.environ["WITHOUT_GPU_GROUP"] = str(group.folder)
        lines = len(_log(settings))
        peaks = Peaks(settings, free)
        try:
            found = anyio.run(lambda: jobs_of(settings, row, tiny=tiny))
        finally:
            facts = peaks.end()
            end_engine(settings)
        main_memory = group.facts()
        remove(group)
    log = _log(settings)[lines:]
    view, watch, _ = found[-1]
    plan = view.job.plan
    result: dict[str, Any] = {
        "model": row.model,
        "card": row.card or "the whole GPU",
        "free_gb": round(free / GB, 2) if free is not None else None,
        "main_memory_gb": row.host_gb,
        "precision": row.precision,
        "shape": str(plan.shape),
        "steps": getattr(plan, "steps", None),
        "placement": _last(log, " available: ")
        or _last(log, " to the device layer by layer")
        or _last(log, " parts stay"),
        "blocks": _last(log, "blocks stay on the device"),
        "state": str(view.job.state),
        "first_s": found[0][1].first_seen_s["done"],
        "warm_s": min((each.first_seen_s["done"] for _, each, _ in found[1:]), default=None),
        **facts,
        **main_memory,
        **{name: value for name, value in watch.row().items() if name in ("s_per_step", "decode_s", "first_seen_s")},
    }
    if row.package:
        result["package_after_s"] = found[0][2]
    if view.job.error is not None:
        result["error"] = view.job.error.message
    return result | over_pcie4(result, manifest) | {"log": log[-25:]}


def remove(group: Group) -> None:
    """Remove a group of processes when the last one, a child of the engine, has ended."""
    until = time.perf_counter() + PATIENCE_S
    while True:
        try:
            group.remove()
            return
        except OSError:
            if time.perf_counter() > until:
                return  # an empty group costs nothing
            time.sleep(0.1)


def over_pcie4(result: dict[str, Any], manifest: Manifest) -> dict[str, float]:
    """Return the seconds of a warm job where PCIe 4 x16 is the link, if its blocks are streamed in every pass."""
    counted = RESIDENT.search(result["blocks"] or "")
    seconds, step, steps = result["warm_s"], result.get("s_per_step"), result["steps"]
    if counted is None or seconds is None or step is None or steps is None:
        return {}
    precision: Any = "fp8" if manifest.can_be_fp8 and result["precision"] != "full" else "bf16"
    expert = (denoiser_bytes(manifest, precision) or 0) / max(1, len(manifest.pipeline.experts))
    streamed = expert * (1 - int(counted[1]) / int(counted[2]))
    longer = max(0.0, streamed / PCIE4_X16 - step)
    return {"streamed_gb_per_pass": round(streamed / GB, 2), "computed_pcie4_s": round(seconds + longer * steps, 2)}


def _log(settings: Settings) -> list[str]:
    file = settings.log_file
    return file.read_text(encoding="utf-8", errors="replace").splitlines() if file.exists() else []


def _last(log: list[str], words: str) -> str | None:
    return next((line.partition(": ")[2] for line in reversed(log) if words in line), None)


@contextmanager
def home_of(model: str, work: Path, *, tiny: bool) -> Iterator[Path]:
    """Yield a home with a model of random weights, which lie in memory if they have room there."""
    in_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 45 * GB
    weights = Path(mkdtemp(prefix="emulated-cards-", dir=MEMORY if in_memory and not tiny else work))
    home = work / model
    try:
        if model == MODEL:
            prepare(weights / "model", home, tiny, Sheet(work / "weights.json"))
        else:
            WRITERS[model](weights / "model", tiny=tiny)
            lock_weights(Catalog(shipped_folder()).get(model), weights / "model", home)
        yield home
    finally:
        shutil.rmtree(weights)
        shutil.rmtree(home, ignore_errors=True)


def random_request(chance: random.Random, manifest: Manifest, picture: Path) -> Request:
    """Return a job of one step, of a random kind and size, whether or not it fits."""
    assert manifest.sizes is not None
    multiple, most = manifest.sizes.multiple, manifest.sizes.max_pixels or 0
    width = multiple * chance.randint(4, 1920 // multiple)
    height = multiple * chance.randint(4, max(4, min(1920 * multiple, most // width) // multiple))
    task = str(chance.choice(sorted(manifest.tasks)))
    shape: dict[str, Any] = {
        "prompt": "a red circle", "model": manifest.name, "resolution": f"{width}x{height}", "steps": 1,
        "seed": chance.randrange(1000),
    }  # fmt: skip
    if task.startswith("image"):
        shape["image"] = str(picture)
    if manifest.limits.guidance_scale[1] > 1:
        shape["guidance_scale"] = chance.choice([1.0, 4.0])
    if not task.endswith("video"):
        return ImageRequest(**shape)
    assert manifest.frames is not None
    frames = manifest.frames.multiple * chance.randint(1, manifest.frames.maximum // manifest.frames.multiple) + 1
    return VideoRequest(**shape, num_frames=min(frames, manifest.frames.maximum))


async def tries(settings: Settings, model: str, picture: Path, count: int, began: float) -> dict[str, Any]:
    """Run random jobs; return how many were refused or made, and each that was accepted and failed."""
    chance, manifest = random.Random(0), Catalog.of(settings.home).get(model)
    seen: dict[str, Any] = {"tried": 0, "refused": 0, "made": 0, "failed": []}
    async with serving(settings, any_image_folder=True) as service:
        while seen["tried"] < count and time.perf_counter() - began < LIMIT_S:
            request = random_request(chance, manifest, picture)
            seen["tried"] += 1
            try:
                view = await service.submit(request)
            except UserError:
                seen["refused"] += 1
                continue
            view = await service.wait(view.job.id, JOB_S)
            error = view.job.error
            if error is not None and error.code == "too_large_for_device":
                seen["refused"] += 1
            elif view.job.state is JobState.SUCCEEDED:
                seen["made"] += 1
            else:
                seen["failed"].append([str(view.job.plan.task), str(view.job.plan.shape), error and error.message])
    return seen


def main() -> None:
    """Measure, print and keep."""
    began = time.perf_counter()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tries", type=int, help="run that many random jobs of --models instead, on --card")
    parser.add_argument("--models", nargs="+", choices=[MODEL, *WRITERS])
    parser.add_argument("--card", choices=CARDS_MIB, default="12 GB", help="for --tries")
    parser.add_argument("--work", type=Path, help="folder for homes, of up to 30 GB")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        enter_group()
        emulate()
        be_the_engine()
        return
    root = Path(__file__).parents[1]  # the engine does not run in this folder
    os.environ["PYTHONPATH"] = os.pathsep.join([str(root / "src"), str(root), os.environ.get("PYTHONPATH", "")])
    rows: list[dict[str, Any]] = []
    rate = link_rate()
    name = "emulated_cards" if options.tries is None else "emulated_cards_tries"

    def tell(facts: dict[str, Any]) -> None:
        rows.append(facts | ({"link_gb_per_s": round(rate / GB, 1)} if rate is not None else {}))
        print(json.dumps({key: value for key, value in rows[-1].items() if key != "log"}), flush=True)  # noqa: T201
        keep(name, rows, options.out)

    work = Path(mkdtemp(prefix="emulated-cards-", dir=options.work))
    try:
        if options.tries is None:
            measure_rows(options, work, began, tell)
        else:
            try_cards(options, work, began, tell)
    finally:
        shutil.rmtree(work)


def measure_rows(options: argparse.Namespace, work: Path, began: float, tell: Callable[[dict[str, Any]], None]) -> None:
    """Measure rows in their order until the time is over; each model's weights are there while its rows follow."""
    wanted = [row for row in ROWS if not options.models or row.model in options.models]
    while wanted:
        model = wanted[0].model
        following = [row for row in wanted if row.model == model]
        wanted = [row for row in wanted if row.model != model]
        with home_of(model, work, tiny=options.tiny) as home:
            for row in following:
                if time.perf_counter() - began > LIMIT_S:
                    return
                try:
                    tell(measure(row, home, tiny=options.tiny))
                except Exception as error:  # the other rows are worth having
                    tell({"model": row.model, "card": row.card, "error": f"{type(error).__name__}: {error}"})


def try_cards(options: argparse.Namespace, work: Path, began: float, tell: Callable[[dict[str, Any]], None]) -> None:
    """Run random jobs of each model on a card."""
    picture = work / "picture.png"
    Image.radial_gradient("L").convert("RGB").resize((640, 480)).save(picture)
    for model in options.models or [TI2V]:
        row = Row(model, options.card, 64)
        with home_of(model, work, tiny=options.tiny) as home, held(row.card) as free:
            settings = settings_for(row, home)
            peaks = Peaks(settings, free)
            try:
                found = anyio.run(tries, settings, model, picture, options.tries, began)
            finally:
                facts = peaks.end()
                end_engine(settings)
            tell({"model": model, "card": row.card, **found, **facts, "log": _log(settings)[-25:]})


if __name__ == "__main__":
    main()
