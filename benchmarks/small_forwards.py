"""Small forwards launched kernel by kernel against replayed CUDA graphs: seconds, bits, and memory of the graphs.

    python -m benchmarks.small_forwards         # on a GPU: Wan2.2 TI2V-5B of real size, and jobs of wan-mini
    python -m benchmarks.small_forwards --tiny  # the same script in seconds, on any CPU

TI2V-5B has random weights in FP8 and its blocks' kernels are called from Python, as before its package is built; a
compiled package launches sooner, so it gains less. Both ways take turns, on the same inputs, in one run, so that a busy
host is busy for both. A row's seconds are medians without what comes first with a text: one forward as ever, and one
that is recorded (`recording_s`). A job's seconds hold all of it. Writes `benchmarks/results/small_forwards.json`.

A CPU has no graphs: there a tape that notes operations stands in, which shows that all of it works, and no times.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch
from diffusers import WanTransformer3DModel

from benchmarks.h200.models import PROMPT_TOKENS
from benchmarks.real_weights import TINY_WAN, TRANSFORMER
from devkit.machine import hardware, versions
from devkit.tape import TapeRecorder
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.attention import choose_attention
from wan_mcp.engine.cuda_graphs import graphs
from wan_mcp.engine.cuda_graphs.capture import graph_capture_for
from wan_mcp.engine.cuda_graphs.graphs import GraphCapture, ReplayCount, capturing
from wan_mcp.engine.device.device import Device, resolve_device
from wan_mcp.engine.families.wan import pipeline as generate
from wan_mcp.engine.families.wan.denoiser import Denoiser, DenoiserSource, blank_denoiser, load_denoiser
from wan_mcp.engine.families.wan.precision import block_kinds
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.runner import ModelRunner
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.jobs.database import Database
from wan_mcp.jobs.store import JobStore
from wan_mcp.schema.enums import JobState, Task
from wan_mcp.schema.plans import ImagePlan, VideoPlan
from wan_mcp.schema.requests import ImageRequest, VideoRequest
from wan_mcp.settings import Settings

RESULT = Path("benchmarks/results/small_forwards.json")
TI2V, MINI = "wan2.2-ti2v-5b", "wan-mini"
SHAPES = ((704, 1280, 1), (480, 832, 1), (704, 1280, 9))
TINY_SHAPES = ((64, 96, 1),)
SPATIAL, TEMPORAL, PATCH = 16, 4, 4
"""Of Wan2.2's autoencoder: pixels and frames of a latent; of TI2V-5B: latents of a token."""
TEXTS, TEXT_TOKENS = 2, 512
FORWARDS, JOBS = 16, 7
PROMPT = "a red circle moving left"
ONE_BY_ONE, REPLAYED = "one_by_one_s", "replayed_s"

Row = dict[str, Any]
Plan = VideoPlan | ImagePlan
Taken = dict[str, list[float]]


def recorder_of(device: torch.device) -> GraphCapture:
    """What records on the device: CUDA graphs, or a tape."""
    found = graph_capture_for(device)
    if found is None:
        found = TapeRecorder()
    return found


def ways(turn: int) -> tuple[str, str]:
    """Both ways; every other time the other one first."""
    return (ONE_BY_ONE, REPLAYED) if turn % 2 else (REPLAYED, ONE_BY_ONE)


def seconds_of(call: Callable[[], Any]) -> float:
    """Seconds until the device has done what is called."""
    _wait()
    began = time.perf_counter()
    call()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def graphs_mib() -> int | None:
    """Memory in pools of graphs, in MiB; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    pools = [each for each in torch.cuda.memory_snapshot() if any(each.get("segment_pool_id", ()))]
    return sum(int(each["total_size"]) for each in pools) >> 20


def compared(row: str, shape: str, taken: Taken, count: ReplayCount, *, same: bool) -> Row:
    """A row."""
    median = {way: statistics.median(taken[way]) for way in (ONE_BY_ONE, REPLAYED)}
    return {
        "row": row,
        "shape": shape,
        **{way: round(seconds, 5) for way, seconds in median.items()},
        "ratio": round(median[ONE_BY_ONE] / median[REPLAYED], 3),
        "same": same,
        "forwards": count.passes,
        "replayed": count.replayed,
    }


def ti2v_5b(device: Device, *, tiny: bool) -> Denoiser:
    """A denoiser of TI2V-5B's layout through our loader, its blocks in FP8, with random weights."""
    config = TRANSFORMER | (TINY_WAN["transformer"] if tiny else {})

    def load() -> Any:
        torch.manual_seed(1)
        torch.set_default_dtype(device.dtype)
        try:
            with torch.device(device.torch):
                model = WanTransformer3DModel(**config)
        finally:
            torch.set_default_dtype(torch.float32)
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if any(kept in name.split(".") for kept in model._keep_in_fp32_modules):
                parameter.data = parameter.data.float()
        return model

    whole = blank_denoiser(config).config
    manifest = Catalog(shipped_folder()).get(TI2V)
    kinds = block_kinds(manifest, whole, FP8, device.dtype, temb_per_token=True)
    assert kinds is not None
    choose_attention(device.torch, head_dim=kinds[0].shape.head_dim)
    return load_denoiser(DenoiserSource("random", whole, load, "random"), kinds, device, None)


@torch.no_grad()
def forwards(denoiser: Denoiser, device: Device, size: tuple[int, int, int]) -> Row:
    """Forwards of one size (height, width, frames), which two texts take in turns."""
    height, width, frames = size
    channels, text_width = denoiser.model.config.in_channels, denoiser.model.config.text_dim
    shape = (1, channels, (frames - 1) // TEMPORAL + 1, height // SPATIAL, width // SPATIAL)
    tokens = shape[2] * shape[3] * shape[4] // PATCH

    def noise(seed: int, *shape: int) -> torch.Tensor:
        random = torch.Generator(device.torch).manual_seed(seed)
        return torch.randn(shape, generator=random, device=device.torch, dtype=device.dtype)

    def inputs(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return noise(seed, *shape), torch.full((1, tokens), 900.0 - seed, device=device.torch)

    texts = [noise(seed, 1, TEXT_TOKENS, text_width) for seed in range(TEXTS)]
    for text in texts:
        text[:, PROMPT_TOKENS:] = 0  # padding, as of pipelines
    model = denoiser.model
    calls = {ONE_BY_ONE: model.forward}
    taken: Taken = {ONE_BY_ONE: [], REPLAYED: [], "recording_s": []}
    same = True
    with capturing([(model, denoiser.blocks)], recorder_of(device.torch), FORWARDS) as count:
        calls[REPLAYED] = model.forward
        for text, recording in product(texts, (False, True)):
            given = inputs(int(recording))
            seconds = seconds_of(lambda: model.forward(*given, text, return_dict=False))  # noqa: B023
            if recording:
                taken["recording_s"].append(seconds)
        for turn in range(FORWARDS):
            given, text, made = inputs(turn), texts[turn % TEXTS], {}
            for way in ways(turn // TEXTS):

                def run(way: str = way) -> None:
                    made[way] = calls[way](*given, text, return_dict=False)[0]  # noqa: B023

                taken[way].append(seconds_of(run))
            same = same and bool(torch.equal(*made.values())) and bool(made[REPLAYED].isfinite().all())
        held = graphs_mib()
    denoiser.forget()
    return {
        **compared("TI2V-5B forward", f"{height}x{width}x{frames}", taken, count, same=same),
        "recording_s": round(statistics.median(taken["recording_s"]), 5),
        "graphs_mib": held,
        "graphs_left_mib": graphs_mib(),
    }


class Runner:
    """A runner that runs jobs of wan-mini within this process, so that either way can be asked for."""

    def __init__(self, home: Path, device: torch.device) -> None:
        precision = "auto" if device.type == "cuda" else "fp8"
        self._settings = Settings(home=home, device=str(device), compile=False, precision=precision, min_free_mb=1)
        self._database = Database(self._settings.database)
        self._store = JobStore(self._database)
        self._runner = ModelRunner(self._settings, Catalog(shipped_folder()))

    def run(self, plan: Plan, way: str) -> tuple[float, list[bytes], ReplayCount]:
        """Seconds of a job, its files, and what was replayed of it."""
        request = ImageRequest(prompt=PROMPT) if isinstance(plan, ImagePlan) else VideoRequest(prompt=PROMPT)
        self._store.submit(request, plan, None, 1)
        job = self._store.claim(self._settings.device)
        assert job is not None
        counts: list[ReplayCount] = []

        @contextmanager
        def counted(*given: Any) -> Iterator[ReplayCount]:
            with capturing(*given) as count:
                counts.append(count)
                yield count

        most = graphs.MAX_FLOPS if way == REPLAYED else 0.0
        with (
            patch.object(generate, "graph_capture_for", recorder_of),
            patch.object(generate, "recorded", counted),
            patch.object(graphs, "MAX_FLOPS", most),
            Reporter(job, self._store, self._settings) as report,
        ):
            seconds = seconds_of(lambda: self._runner.run(job, report))
        self._store.finish(job, JobState.SUCCEEDED, caption=None)
        [count] = counts
        return seconds, [Path(each.path).read_bytes() for each in self._store.get(job.id).artifacts], count

    def close(self) -> None:
        """Let go of the job table."""
        self._database.close()


def plans(*, tiny: bool) -> dict[str, Plan]:
    """Jobs by their shape."""
    side = 64 if tiny else 128
    common: dict[str, Any] = {
        "model": MINI, "prompt": PROMPT, "prompt_asked": PROMPT, "negative_prompt": "", "style": None,
        "width": side, "height": side, "steps": 5 if tiny else 10, "guidance_scale": 3.0, "seed": 11, "count": 1,
    }  # fmt: skip
    picture, video = {"task": Task.TEXT_TO_IMAGE}, {"task": Task.TEXT_TO_VIDEO, "fps": 8.0}
    return {
        f"{side}x{side}x1": ImagePlan(**common | picture),
        f"{side}x{side}x17": VideoPlan(**common | video, num_frames=17, duration_s=17 / 8),
        f"{side}x{side}x1, count=4": ImagePlan(**common | picture | {"count": 4}),
    }


def jobs(runner: Runner, shape: str, plan: Plan, times: int) -> Row:
    """A job again and again, after one of each way that is not counted."""
    taken: Taken = {ONE_BY_ONE: [], REPLAYED: []}
    files: list[list[bytes]] = []
    counts: dict[str, ReplayCount] = {}
    for turn in range(times + 1):
        for way in ways(turn):
            seconds, made, counts[way] = runner.run(plan, way)
            files.append(made)
            if turn:
                taken[way].append(seconds)
    assert counts[ONE_BY_ONE].replayed == 0
    same = all(made == files[0] for made in files)
    return {
        **compared("wan-mini job", shape, taken, counts[REPLAYED], same=same),
        "graphs_left_mib": graphs_mib(),
    }


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, help=f"the file of results; {RESULT} unless tiny")
    parser.add_argument("--note", help="what is to be known of this run, e.g. what else the host does meanwhile")
    options = parser.parse_args()
    out = options.out or (None if options.tiny else RESULT)
    device = resolve_device("auto")
    rows: list[Row] = []

    def keep(row: Row) -> None:
        rows.append(row)
        sys.stderr.write(json.dumps(row) + "\n")
        found = {"hardware": hardware(device.torch), "versions": versions(), "note": options.note, "rows": rows}
        if out is not None:
            out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")

    denoiser = ti2v_5b(device, tiny=options.tiny)
    for size in TINY_SHAPES if options.tiny else SHAPES:
        keep(forwards(denoiser, device, size))
    del denoiser
    with TemporaryDirectory() as home:
        runner = Runner(Path(home), device.torch)
        for shape, plan in plans(tiny=options.tiny).items():
            keep(jobs(runner, shape, plan, 1 if options.tiny else JOBS))
        runner.close()


if __name__ == "__main__":
    main()
