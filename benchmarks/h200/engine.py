"""Our engine's jobs: weights on disk as the hub has them, the job table, an engine process, files.

The same home then serves `benchmarks.h200.server`.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import anyio

from benchmarks.h200 import models
from benchmarks.h200.measuring import Sheet
from benchmarks.h200.plain import IMAGE_STEPS, STEPS
from benchmarks.h200.weights import write_a14b
from benchmarks.real_size import ENGINE
from benchmarks.real_weights import lock_weights
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.requests import ImageRequest, Request, VideoRequest
from wan_mcp.service.service import JobService, JobView, serving
from wan_mcp.settings import Settings

SOURCE = "wan2.2-t2v-a14b"
MODEL = "a14b-random"
PROMPT = "a red circle moving left"
JOB_S = 240
PACKAGE_S = 200


def prepare(folder: Path, home: Path, tiny: bool, sheet: Sheet) -> Settings:
    """A home with the model in it, as if it had been downloaded; its weights lie in `folder`."""
    began = time.perf_counter()
    write_a14b(folder, tiny=tiny)
    text = (shipped_folder() / f"{SOURCE}.toml").read_text(encoding="utf-8")
    (home / "manifests").mkdir(parents=True)
    text = text.replace(f'name = "{SOURCE}"', f'name = "{MODEL}"', 1)
    if tiny:
        text = re.sub(r"\d+(_\d{3})*_000_000_000", "1_000_000", text)  # what its parts take
    (home / "manifests" / f"{MODEL}.toml").write_text(text, encoding="utf-8")
    manifest = Catalog.of(home).get(MODEL)
    size = lock_weights(manifest, folder, home)
    sheet.fact("weights: GB", round(size / 1e9, 2))
    sheet.fact("weights: made and hashed s", round(time.perf_counter() - began, 1))
    command = "" if find_spec("typer") else shlex.join(ENGINE)
    precision = "fp8" if tiny else "auto"
    return Settings(
        home=home, engine_idle_s=300, min_free_mb=1, engine_command=command, precision=precision, video_model=MODEL
    )


def video(name: str, tiny: bool, seed: int, steps: int = STEPS) -> VideoRequest:
    """Four steps without guidance."""
    height, width, frames = models.shape(name, tiny)
    return VideoRequest(
        prompt=PROMPT, model=MODEL, resolution=f"{width}x{height}", num_frames=frames, steps=steps, seed=seed,
        guidance_scale=1.0, guidance_scale_2=1.0,
    )  # fmt: skip


def image(tiny: bool, seed: int) -> ImageRequest:
    """Eight steps without guidance."""
    height, width, _ = models.shape("image", tiny)
    return ImageRequest(
        prompt=PROMPT, model=MODEL, resolution=f"{width}x{height}", steps=IMAGE_STEPS, guidance_scale=1.0, seed=seed
    )


async def job(service: JobService, request: Request) -> tuple[JobView, dict[str, float]]:
    """Run a job; gives it and the seconds at which its stages were first seen."""
    began = time.perf_counter()
    seen: dict[str, float] = {}

    async def look(view: JobView) -> None:
        if (progress := view.job.progress) is not None:
            seen.setdefault(str(progress.stage), time.perf_counter() - began)
            if progress.stage is Stage.DENOISE and progress.step:
                seen.setdefault(f"step {progress.step}", time.perf_counter() - began)

    view = await service.submit(request)
    view = await service.wait(view.job.id, JOB_S, look)
    seen["done"] = time.perf_counter() - began
    if view.job.state is not JobState.SUCCEEDED:
        reason = view.job.error.message if view.job.error else f"not done after {JOB_S} s"
        raise RuntimeError(f"{view.job.state}: {reason}")
    return view, {stage: round(at, 3) for stage, at in seen.items()}


async def measure(settings: Settings, sheet: Sheet, tiny: bool) -> None:
    """First jobs, warm jobs, and a second engine that finds the converted weights."""
    async with serving(settings) as service:
        with sheet.part("first job"):
            _, seen = await job(service, video("480p", tiny, 0))
            sheet.fact("first job of a new home, eagerly while blocks compile: stages seen at s", seen)
        with sheet.part("wait for the package"), anyio.move_on_after(PACKAGE_S):
            while not list((settings.home / "packages").glob("*.json")):  # noqa: ASYNC110 - of another process
                await anyio.sleep(0.2)
        for name, times in (("480p", 3), ("image", 4), ("720p", 2)):
            with sheet.part(f"warm {name}"):
                await _warm(service, sheet, name, tiny, times)
    log = settings.log_file.read_text(encoding="utf-8", errors="replace")
    sheet.fact("log", log[-5000:])


async def _warm(service: JobService, sheet: Sheet, name: str, tiny: bool, times: int) -> None:
    taken, shares = [], []
    for seed in range(times):
        request: Request = image(tiny, seed) if name == "image" else video(name, tiny, seed)
        view, seen = await job(service, request)
        if seed == 0 and times > 2:
            continue  # the first of a size
        taken.append(seen["done"])
        started, finished = view.job.started_at or 0.0, view.job.finished_at or 0.0
        shares.append(seen | {"engine_s": round(finished - started, 3)})
    row = f"image, {IMAGE_STEPS} steps" if name == "image" else f"video, {STEPS} steps"
    sheet.measured(row, models.written(models.shape(name, tiny)), "ours", taken, stages=shares)


async def restart(settings: Settings, sheet: Sheet, tiny: bool) -> None:
    """A new engine on a home that has converted weights and a package: from the request to the first step."""
    async with serving(settings) as service:
        began = time.perf_counter()
        _, seen = await job(service, image(tiny, 9))
        kept = sum(file.stat().st_size for file in (settings.home / "converted").rglob("*.safetensors"))
        loading = seen.get("encoding", 0.0) - seen.get("loading", 0.0)
        sheet.fact("second engine: stages seen at s", seen)
        sheet.fact("second engine: converted weights GB", round(kept / 1e9, 2))
        sheet.fact("second engine: loading s", round(loading, 2))
        sheet.fact("second engine: seconds in all", round(time.perf_counter() - began, 1))
    sheet.fact("log of the second engine", settings.log_file.read_text(encoding="utf-8", errors="replace")[-2500:])


def end_engine(settings: Settings) -> None:
    """End the engine that our jobs started, and wait for its lock."""
    import signal

    from wan_mcp.jobs.database import Database

    with_pid = Database(settings.database).read("SELECT pid FROM engines WHERE pid IS NOT NULL")
    for row in with_pid:
        try:
            os.kill(int(row["pid"]), signal.SIGTERM)
        except ProcessLookupError:
            continue
    time.sleep(3.0 if with_pid else 0.0)  # its driver gives the memory back


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder for the weights; must not exist")
    parser.add_argument("--home", type=Path, required=True, help="home of the server; must not exist")
    parser.add_argument("--transcript", type=Path, help="let a client talk to the server afterwards, and keep it here")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    sheet = Sheet(options.out)
    root = str(Path(__file__).parents[2])  # the engine does not run in this folder
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    with sheet.part("weights"):
        settings = prepare(options.weights, options.home, options.tiny, sheet)
    with sheet.part("jobs"):
        anyio.run(measure, settings, sheet, options.tiny)
    with sheet.part("restart"):
        end_engine(settings)
        anyio.run(restart, settings, sheet, options.tiny)
    if options.transcript is not None:
        with sheet.part("server"):
            command = ["-m", "benchmarks.h200.server", "--home", str(options.home), "--out", str(options.transcript)]
            media = ["--media", str(options.transcript.parent / "server-media")]
            subprocess.run(
                [sys.executable, *command, *media, *(["--tiny"] if options.tiny else [])], check=True, timeout=240
            )
    with sheet.part("end"):
        end_engine(settings)


if __name__ == "__main__":
    main()
