"""The server on a host with two or more GPUs, as a client sees it: random weights of Wan2.2 A14B, real size.

    python -m benchmarks.parallel.server           # on a host with two GPUs: about six minutes
    python -m benchmarks.parallel.server --tiny    # the same script on the CPU: one engine, so nothing is shared

One job on all GPUs; three jobs at once; and a GPU whose engine is killed while it helps with a job. Writes
what was said, with times, and the engines' log; ends with an error if a job did not succeed, or was not shared.
"""

import argparse
import hashlib
import os
import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import anyio
from imageio_ffmpeg import read_frames
from mcp import Client, StdioServerParameters

from benchmarks.h200.engine import MODEL, end_engine, prepare
from benchmarks.h200.measuring import Sheet
from benchmarks.h200.server import DATED, Transcript, call, expect, reach, settings, video
from benchmarks.records import RESULTS
from devkit.machine import describe
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.workers import WorkerRegistry
from wan_mcp.settings import Settings

READY_S = 150
"""Until all engines have the model in memory."""
SHARED = "shared by"
"""What the log of an engine says of a job that several run."""


async def story(home: Path, tell: Transcript, gpus: int, tiny: bool) -> None:
    """Let a client make videos, and compare what became of them with what should."""
    environment = settings(home, tiny) | {"WAN_MCP_DEVICE": "auto" if gpus else "cpu", "WAN_MCP_ENGINE_IDLE_S": "240"}
    stdio = StdioServerParameters(command=sys.executable, args=["-m", "wan_mcp", "stdio"], env=environment)
    async with Client(stdio) as client:
        tell.say("one job: the GPU that claims it runs it, the engines of the others start and load its model")
        expect(await call(client, tell, "generate_video", **video("480p", tiny, seed=1)), "succeeded")
        await _all_loaded(home, tell, gpus)
        tell.say("one job, and all GPUs have the model")
        await _check_shared(client, tell, home, gpus, **video("720p", tiny, seed=2))
        frames = [await _check_shared(client, tell, home, gpus, **video("480p", tiny, seed=3)) for _ in range(2)]
        if frames[0] != frames[1]:
            raise RuntimeError("the same request on the same GPUs has other frames")
        tell.say("the same request again: the same frames")
        tell.say("three jobs at once: each GPU runs its own")
        began = perf_counter()
        jobs = [
            await call(client, tell, "generate_video", **video("480p", tiny, seed=4 + n, wait_s=0)) for n in range(3)
        ]
        for job in jobs:
            expect(await call(client, tell, "get_job", job_id=job["job_id"], wait_s=240), "succeeded")
        tell.say(f"all three after {perf_counter() - began:.2f} s, on {_devices(home, jobs)}")
        if gpus > 1:
            await _killed(client, tell, home, tiny)


async def _all_loaded(home: Path, tell: Transcript, gpus: int) -> None:
    rows = WorkerRegistry(Database(Settings(home=home).database))
    with anyio.move_on_after(READY_S):
        while True:
            loaded = sum(row.loaded.generator is not None for row in rows.living())
            if loaded >= max(gpus, 1):
                break
            await anyio.sleep(0.2)
    tell.say(f"{loaded} engines have the model in memory")


async def _check_shared(client: Client, tell: Transcript, home: Path, gpus: int, **request: object) -> str:
    """Make a video on all GPUs; return the hash of its frames."""
    before = _log(home).count(SHARED)
    answer = await call(client, tell, "generate_video", **request)
    expect(answer, "succeeded")
    if gpus > 1 and _log(home).count(SHARED) == before:
        raise RuntimeError("the job was not shared")
    pixels = hashlib.sha256()
    for frame in read_frames(answer["artifacts"][0]["path"]):
        pixels.update(frame if isinstance(frame, bytes) else b"")  # the first is the file's facts
    return pixels.hexdigest()


async def _killed(client: Client, tell: Transcript, home: Path, tiny: bool) -> None:
    """Kill the engine that helps with a job, in its second step."""
    begun = await call(client, tell, "generate_video", **video("720p", tiny, seed=9, wait_s=0))
    await reach(client, begun["job_id"], 1)
    first = _devices(home, [begun])[0]
    rows = WorkerRegistry(Database(Settings(home=home).database))
    other = next(row for row in rows.living() if row.device != first)
    os.kill(other.pid, signal.SIGKILL)
    tell.say(f"the engine of {other.device}, which helps {first}, was killed (-9)")
    expect(await call(client, tell, "get_job", job_id=begun["job_id"], wait_s=240), "succeeded")


def _devices(home: Path, jobs: list[dict[str, str]]) -> list[str]:
    database = Database(Settings(home=home).database)
    return [database.read("SELECT device FROM jobs WHERE id = ?", job["job_id"])[0]["device"] for job in jobs]


def _log(home: Path) -> str:
    file = Settings(home=home).log_file
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS / "parallel_server.md")
    parser.add_argument("--weights", type=Path, help="parent of the folder for the weights (45 GB)")
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    import torch

    gpus = 0 if options.tiny else torch.cuda.device_count()
    name = f"{gpus} x {torch.cuda.get_device_name(0)}" if gpus else "no GPU"
    with TemporaryDirectory(dir=options.weights) as weights, TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        prepare(Path(weights) / MODEL, home, options.tiny, Sheet(Path(folder) / "weights.json"))
        tell = Transcript(options.out, home, f"{gpus or 'no'} GPUs")
        tell.about(describe() | {"gpu": name})
        try:
            anyio.run(story, home, tell, gpus, options.tiny)
        finally:
            lines = [line for line in _log(home).splitlines() if DATED.match(line)]
            tell.say("the engines' log:\n" + "\n".join(lines[-80:]))
            end_engine(Settings(home=home))


if __name__ == "__main__":
    main()
