"""What a job costs beside the bare pipeline call, and how long a first and a later video take.

    python -m benchmarks.job

`bare` is what a user writes with diffusers alone: the unchanged pipeline, to frames. `bare + files`
adds our own convolution fix and our own encoding, that is, everything but the job around it. Both
alternate with real jobs in one run, so that a noisy machine is noisy for all.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

from benchmarks.records import keep
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.components.cpu_conv3d import use_onednn
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.media.video_writer import VideoWriter
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.requests import VideoRequest
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

MODEL = "wan-mini"
PROMPT = "a large red circle moving left on a black background"
WARM_UPS = 2


class Bare:
    """The pipeline as a user of diffusers calls it."""

    def __init__(self, *, fixed: bool) -> None:
        # Here and not above: `wan_mcp.engine` must come before torch, so that both sides wait alike (OpenMP).
        import torch
        from diffusers import WanPipeline

        self._pipeline = WanPipeline.from_pretrained(EMBEDDED / MODEL, local_files_only=True, dtype=torch.float32)
        self._pipeline.set_progress_bar_config(disable=True)
        if fixed:
            use_onednn(self._pipeline.vae)
        self._generator = torch.Generator("cpu")
        self._manifest = Catalog(shipped_folder()).get(MODEL)

    def frames(self, seed: int) -> Any:
        """The default video as frames of shape (frames, height, width, 3), float 0…1."""
        rule, sizes = self._manifest.frames, self._manifest.sizes
        assert rule is not None
        assert sizes is not None
        size = next(r for r in sizes.named if r.name == sizes.default)
        return self._pipeline(
            prompt=PROMPT,
            height=size.height,
            width=size.width,
            num_frames=rule.default,
            num_inference_steps=self._manifest.defaults.steps,
            guidance_scale=self._manifest.defaults.guidance_scale,
            max_sequence_length=self._manifest.pipeline.text_tokens,
            generator=self._generator.manual_seed(seed),
        ).frames[0]

    def files(self, seed: int, media: MediaStore) -> None:
        """The same, written as our engine writes it."""
        frames = (self.frames(seed) * 255).round().astype("uint8")
        rule = self._manifest.frames
        assert rule is not None
        count, height, width = frames.shape[:3]
        writer = VideoWriter(media, MediaName(Kind.VIDEO, f"bare-{seed}"), (width, height), count, rule.fps, {})
        writer.add(frames)
        writer.finish(seed)


async def job_seconds(service: JobService, seed: int) -> float:
    """Seconds from submitting a default video to seeing it finished."""
    began = time.perf_counter()
    view = await service.submit(VideoRequest(prompt=PROMPT, seed=seed))
    view = await service.wait(view.job.id, 120)
    assert view.job.state is JobState.SUCCEEDED, view.job.error
    return time.perf_counter() - began


def seconds_of(call: Callable[[], object]) -> float:
    """Seconds that a call takes."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


async def measure(repeats: int) -> list[dict[str, Any]]:
    """All rows."""
    bare, fixed = Bare(fixed=False), Bare(fixed=True)
    times: dict[str, list[float]] = {"bare": [], "bare + files": [], "job": []}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), device="cpu", engine_idle_s=10)
        media = MediaStore(Path(folder) / "bare")
        async with serving(settings) as service:
            for seed in range(WARM_UPS + repeats):
                rounds = {
                    "bare": seconds_of(lambda: bare.frames(seed)),  # noqa: B023
                    "bare + files": seconds_of(lambda: fixed.files(seed, media)),  # noqa: B023
                    "job": await job_seconds(service, seed),
                }
                if seed >= WARM_UPS:
                    for name, seconds in rounds.items():
                        times[name].append(seconds)
        cold = [cold_seconds(Path(folder) / f"cold-{n}") for n in range(3)]
    median = {name: statistics.median(values) for name, values in times.items()}
    overhead = statistics.median(j - b for j, b in zip(times["job"], times["bare + files"], strict=True))
    return [
        {"row": "default video, warm", "goal_s": 4.0, "job_s": round(median["job"], 3), "runs": times},
        {"row": "default video, cold start of everything", "goal_s": 10.0, "job_s": round(statistics.median(cold), 3)},
        {
            "row": "job against the bare call with the same files written",
            "overhead_ms": round(1000 * overhead, 1),
            "ratio": round(median["job"] / median["bare + files"], 4),
            "goal_ms": 50,
            "goal_ratio": 1.01,
        },
        {
            "row": "job against plain diffusers, frames only",
            "bare_s": round(median["bare"], 3),
            "ratio": round(median["job"] / median["bare"], 4),
        },
    ]


def cold_seconds(home: Path) -> float:
    """Seconds of `wan-mcp generate video` where nothing runs yet: front, engine, model, video."""
    environment = Settings(home=home, device="cpu", engine_idle_s=0).environment()
    command = [sys.executable, "-m", "wan_mcp", "generate", "video", PROMPT, "-o", str(home.with_suffix(".mp4"))]
    return seconds_of(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    rows = anyio.run(measure, parser.parse_args().repeats)
    for row in rows:
        print({key: value for key, value in row.items() if key != "runs"})  # noqa: T201
    print(keep("job", rows))  # noqa: T201


if __name__ == "__main__":
    main()
