"""Models of their real size, with random weights, through the ordinary path on a GPU.

    python -m benchmarks.real_size              # Wan2.2 TI2V-5B, 1280x704, 121 frames; JoyCaption beta one
    python -m benchmarks.real_size --tiny       # the same script in seconds, on any CPU

No hub is asked: the weights are made on the device, written to disk in the layout of the model's
repository, and locked as if they had been downloaded. From there on everything is as a user has
it: manifest, job table, an engine process of its own, mp4. Results of random weights show nothing;
times and memory are those of the real ones.
"""

import argparse
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import torch
from PIL import Image

from benchmarks.real_weights import lock_weights, write_joycaption, write_ti2v_5b
from benchmarks.records import RESULTS, keep
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.schema.enums import JobState, Stage
from wan_mcp.schema.jobs import Progress
from wan_mcp.schema.plans import VideoPlan
from wan_mcp.schema.requests import CaptionRequest, Request, VideoRequest
from wan_mcp.service.service import JobView, serving
from wan_mcp.settings import Settings

VIDEO, CAPTION = "wan2.2-ti2v-5b", "joycaption-beta-one"
ENGINE = (sys.executable, "-m", "benchmarks.real_size", "--engine")
JOB_S = 300
LOOK_S = 0.05

Rows = list[dict[str, Any]]


class Watch(threading.Thread):
    """Sees when a job's stages and steps begin, and the GPU memory that is used in each, its engine's and all else."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._began = time.perf_counter()
        self._ended = threading.Event()
        self._stage = "waiting"
        self.first_seen_s: dict[str, float] = {}
        self.steps_s: dict[int, float] = {}
        self.tokens_s: dict[int, float] = {}
        self.peak_gb: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        while not self._ended.wait(LOOK_S):
            if torch.cuda.is_available():
                free, total = torch.cuda.mem_get_info()
                used = round((total - free) / 1e9, 1)
                self.peak_gb[self._stage] = max(used, self.peak_gb.get(self._stage, 0.0))

    def see(self, progress: Progress | None) -> None:
        """What a job says of itself now."""
        if progress is None:
            return
        now = round(time.perf_counter() - self._began, 2)
        self._stage = str(progress.stage)
        self.first_seen_s.setdefault(self._stage, now)
        if progress.step is not None:
            self.steps_s.setdefault(progress.step, now)
        if progress.stage is Stage.DENOISE and " of at most " in progress.detail:
            self.tokens_s.setdefault(int(progress.detail.split()[0]), now)

    def end(self) -> None:
        """The job is done."""
        self.first_seen_s["done"] = round(time.perf_counter() - self._began, 2)
        self._ended.set()
        self.join()

    def row(self) -> dict[str, Any]:
        """What was seen: seconds since the request, and by stage or step."""
        seen = self.first_seen_s
        row: dict[str, Any] = {"first_seen_s": seen, "gpu_peak_gb": self.peak_gb}
        if per_step := _rate(self.steps_s):
            row["s_per_step"] = round(per_step, 3)
        if per_token := _rate(self.tokens_s):
            row["tokens_per_s"] = round(1 / per_token, 1)
        if Stage.DECODE in seen:
            row["decode_s"] = round(seen.get(Stage.WRITE, seen["done"]) - seen[Stage.DECODE], 2)
        return row


def _rate(seen: dict[int, float]) -> float | None:
    """Seconds for each, from the first seen to the last, without what came before the first was done."""
    counts = sorted(count for count in seen if count > 0)
    if len(counts) < 2:
        return None
    return (seen[counts[-1]] - seen[counts[0]]) / (counts[-1] - counts[0])


async def run(settings: Settings, request: Request) -> tuple[JobView, Watch]:
    """Run a job; gives it and what was seen of it."""
    watch = Watch()

    async def look(view: JobView) -> None:
        watch.see(view.job.progress)

    async with serving(settings, any_image_folder=True) as service:
        view = await service.submit(request)
        view = await service.wait(view.job.id, JOB_S, look)
    watch.end()
    return view, watch


def measure(
    model: str,
    write: Callable[..., None],
    requests: list[Request],
    tell: Callable[[dict[str, Any]], None],
    *,
    tiny: bool,
) -> None:
    """All rows of one model: its weights, and then one job after the other on one engine."""
    manifest = Catalog(shipped_folder()).get(model)
    with TemporaryDirectory() as root:
        home, folder = Path(root) / "home", Path(root) / "snapshot"
        began = time.perf_counter()
        write(folder, tiny=tiny)
        written = time.perf_counter()
        size = lock_weights(manifest, folder, home)
        locked = time.perf_counter()
        tell(
            {
                "row": f"{model}: weights on disk",
                "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
                "gb": round(size / 1e9, 2),
                "write_s": round(written - began, 1),
                "hash_s": round(locked - written, 1),
            }
        )
        command = "" if find_spec("typer") else shlex.join(ENGINE)
        settings = Settings(home=home, engine_idle_s=5, min_free_mb=1, engine_command=command)
        for number, request in enumerate(requests):
            try:
                view, watch = anyio.run(run, settings, request)
            except Exception as error:  # the other rows are worth having
                tell({"row": model, "job": number + 1, "error": f"{type(error).__name__}: {error}"})
                continue
            row = {"row": model, "job": number + 1, "state": view.job.state, **watch.row()}
            plan = view.job.plan
            if isinstance(plan, VideoPlan):
                row |= {"shape": f"{plan.width}x{plan.height}x{plan.num_frames}", "steps": plan.steps}
            if view.job.notes:
                row["notes"] = list(view.job.notes)
            if view.job.state is not JobState.SUCCEEDED:
                row["error"] = view.job.error.message if view.job.error else f"not done after {JOB_S} s"
            log = settings.log_file.read_text(encoding="utf-8", errors="replace")
            row["log"] = log[-6000:] if view.job.state is not JobState.SUCCEEDED else log[-3000:]
            tell(row)


def video_requests(steps: list[int], *, tiny: bool) -> list[Request]:
    """The first job of a fresh engine, then warm ones."""
    shape: dict[str, Any] = {"resolution": "480p-landscape", "num_frames": 5} if tiny else {}
    return [
        VideoRequest(prompt="a red circle moving left", model=VIDEO, steps=count, seed=seed, **shape)
        for seed, count in enumerate(steps)
    ]


def caption_requests(picture: Path) -> list[Request]:
    """Two captions: the first of a fresh engine, and a warm one."""
    Image.radial_gradient("L").convert("RGB").resize((640, 480)).save(picture)
    return [CaptionRequest(image=str(picture), model=CAPTION, seed=seed) for seed in range(2)]


def be_the_engine() -> None:
    """What `wan-mcp engine` is, where the command line's packages are not installed."""
    from wan_mcp.engine.device.device import auto_devices
    from wan_mcp.engine.runner import build_runner
    from wan_mcp.engine.worker.loop import run_engine
    from wan_mcp.logs import log_to_stderr

    settings = Settings()
    log_to_stderr("INFO")
    run_engine(settings, build_runner, auto_devices)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--models", nargs="+", choices=["video", "caption"], default=["video", "caption"])
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 8])
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of real_size.json")
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.engine:
        be_the_engine()
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the weights go
    root = str(Path(__file__).parents[1])  # the engine does not run in this folder
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    rows: Rows = []

    def tell(row: dict[str, Any]) -> None:
        rows.append(row)
        print({key: value for key, value in row.items() if key != "log"}, flush=True)  # noqa: T201
        keep("real_size", rows, arguments.out)

    if "video" in arguments.models:
        measure(VIDEO, write_ti2v_5b, video_requests(arguments.steps, tiny=arguments.tiny), tell, tiny=arguments.tiny)
    if "caption" in arguments.models:
        with TemporaryDirectory() as folder:
            requests = caption_requests(Path(folder) / "picture.png")
            measure(CAPTION, write_joycaption, requests, tell, tiny=arguments.tiny)


if __name__ == "__main__":
    main()
