"""Real models without a GPU, in 12 GB of main memory: real size, random weights, the ordinary path.

    python -m benchmarks.without_gpu          # Wan2.1 T2V-1.3B, then FLUX.2 klein 4B; tens of minutes
    python -m benchmarks.without_gpu --tiny   # the same script in seconds

Where the memory controller of cgroups (version 1, as root) can be used, the engine runs in a group of `--limit-gb`,
which counts the files that it has mapped, too. The result says whether it did, and what the engine held at most.
"""

import argparse
import os
import re
import shlex
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio

from benchmarks.h200.engine import end_engine
from benchmarks.real_size import Watch, be_the_engine
from benchmarks.real_weights import lock_weights
from benchmarks.records import RESULTS, keep
from benchmarks.small_weights import write_klein, write_wan_1_3b
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.jobs.database import Database
from wan_mcp.schema.requests import ImageRequest, Request, VideoRequest
from wan_mcp.service.service import JobView, serving
from wan_mcp.settings import Settings

WRITERS = {"wan2.1-t2v-1.3b": write_wan_1_3b, "flux2-klein-4b": write_klein}
ENGINE = (sys.executable, "-m", "benchmarks.without_gpu", "--engine")
GROUPS = Path("/sys/fs/cgroup/memory")
PATIENCE_S = 3 * 3600
LOOK_S = 0.2
MIB = 1024 * 1024


class Memory(threading.Thread):
    """Sees the most memory of the engine's process: its own, and with the pages of files that it has mapped."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(daemon=True)
        self._settings = settings
        self._ended = threading.Event()
        self.own_gb = self.with_files_gb = 0.0
        self.start()

    def run(self) -> None:
        database = Database(self._settings.database)
        while not self._ended.wait(LOOK_S):
            for row in database.read("SELECT pid FROM engines WHERE pid IS NOT NULL"):
                try:
                    status = Path(f"/proc/{row['pid']}/status").read_text(encoding="utf-8")
                except OSError:
                    continue
                self.own_gb = max(self.own_gb, _gb(status, "RssAnon"))
                self.with_files_gb = max(self.with_files_gb, _gb(status, "VmHWM"))
        database.close()

    def end(self) -> None:
        self._ended.set()
        self.join()


def _gb(status: str, name: str) -> float:
    found = re.search(rf"{name}:\s+(\d+) kB", status)
    return round(int(found[1]) * 1024 / 1e9, 2) if found else 0.0


class Group:
    """A group of processes with a limit of memory, where this system lets us make one."""

    def __init__(self, limit: int) -> None:
        self.folder: Path | None = GROUPS / f"without-gpu-{os.getpid()}"
        try:
            self.folder.mkdir()
            (self.folder / "memory.limit_in_bytes").write_text(str(limit))
        except OSError:
            self.folder = None

    def facts(self) -> dict[str, Any]:
        """Return the most that the group held, and how often the limit made the kernel reclaim pages."""
        if self.folder is None:
            return {"limit": "none: no group could be made"}
        read = {name: int((self.folder / f"memory.{name}").read_text()) for name in FACTS}
        return {
            "limit_gb": round(read["limit_in_bytes"] / 1e9, 2),
            "group_peak_gb": round(read["max_usage_in_bytes"] / 1e9, 2),
            "times_at_the_limit": read["failcnt"],
        }

    def remove(self) -> None:
        if self.folder is not None:
            self.folder.rmdir()


FACTS = ("limit_in_bytes", "max_usage_in_bytes", "failcnt")


async def run(settings: Settings, request: Request) -> tuple[JobView, Watch]:
    """Run a job; gives it and what was seen of it."""
    watch = Watch()

    async def look(view: JobView) -> None:
        watch.see(view.job.progress)

    async with serving(settings) as service:
        view = await service.submit(request)
        view = await service.wait(view.job.id, PATIENCE_S, look)
    watch.end()
    return view, watch


def request_for(model: str, options: argparse.Namespace) -> Request:
    if WRITERS[model] is write_klein:
        size = "64x64" if options.tiny else "256x256"
        return ImageRequest(prompt="a red circle", model=model, resolution=size, steps=options.steps, seed=1)
    size = "64x64" if options.tiny else "832x480"
    return VideoRequest(
        prompt="a red circle moving left", model=model, resolution=size, num_frames=options.frames, steps=options.steps,
        guidance_scale=1.0, seed=1,
    )  # fmt: skip


def measure(model: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the row of one model."""
    manifest = Catalog(shipped_folder()).get(model)
    WRITERS[model](folder / "weights", tiny=options.tiny)
    size = lock_weights(manifest, folder / "weights", folder / "home")
    group = Group(options.limit_gb * 1_000_000_000)
    if group.folder is not None:
        os.environ["WITHOUT_GPU_GROUP"] = str(group.folder)
    settings = Settings(
        home=folder / "home", device="cpu", engine_idle_s=300, min_free_mb=1, engine_command=shlex.join(ENGINE),
        step_deadline_s=PATIENCE_S, load_deadline_s=PATIENCE_S,
    )  # fmt: skip
    memory = Memory(settings)
    began = time.perf_counter()
    view, watch = anyio.run(run, settings, request_for(model, options))
    memory.end()
    plan = view.job.plan
    row = {
        "model": model,
        "shape": str(plan.shape),
        "steps": options.steps,
        "weights_gb": round(size / 1e9, 2),
        "state": view.job.state,
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "peak_own_gb": memory.own_gb,
        "peak_with_mapped_files_gb": memory.with_files_gb,
        **group.facts(),
        **watch.row(),
    }
    if view.job.error is not None:
        row["error"] = view.job.error.message
    log = settings.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
    row["log"] = [line for line in log if " INFO " in line or " WARNING " in line][-20:]
    end_engine(settings)
    group.remove()
    return row


def enter_group() -> None:
    """Move this process, an engine, to the group with the limit."""
    if folder := os.environ.get("WITHOUT_GPU_GROUP"):
        (Path(folder) / "cgroup.procs").write_text(str(os.getpid()))


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--models", nargs="+", choices=list(WRITERS), default=list(WRITERS))
    parser.add_argument("--frames", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--limit-gb", type=int, default=12)
    parser.add_argument("--work", type=Path, help="folder for weights of up to 17 GB at a time")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--engine", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.engine:
        enter_group()
        be_the_engine()
        return
    root = str(Path(__file__).parents[1])  # the engine does not run in this folder
    os.environ["PYTHONPATH"] = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    rows: list[dict[str, Any]] = []
    for model in options.models:
        with TemporaryDirectory(dir=options.work) as folder:
            rows.append(measure(model, Path(folder), options))
        print({key: value for key, value in rows[-1].items() if key != "log"}, flush=True)  # noqa: T201
        keep("without_gpu", rows, options.out)


if __name__ == "__main__":
    main()
