"""Self-attention of Wan's sizes: how quick each kernel is, and how exact against float64.

    python -m benchmarks.attention              # on a GPU: every kernel that it has, and turbo
    python -m benchmarks.attention --tiny       # the same script in seconds, on any CPU

Two kinds of data of Wan2.2-A14B's shape (40 heads of 128): normal noise, on which softmax averages the values away and
any rounding looks large, and data like a denoiser's (see `wan_mcp.engine.attention.accuracy`). Beside them what
wan-mini really computes: queries, keys and values of all its blocks and steps, recorded.

`error` is the norm of the difference over the norm of the exact attention; `centred` the same over what is left of it
without the values' mean, which every query gets whatever its weights are.
"""

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers import transformer_wan
from torch import Tensor

from benchmarks.records import keep
from benchmarks.timing import milliseconds
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.attention import Turbo, attend_self, attention_mode, choose_attention
from wan_mcp.engine.attention.accuracy import AttentionAccuracy, synthetic_qkv
from wan_mcp.engine.attention.block_sparse import BlockKernel, TorchBlocks, attend_sparsely
from wan_mcp.engine.attention.sdpa import Kernel
from wan_mcp.engine.attention.selector import KERNEL_NAMES, kernel_of
from wan_mcp.engine.components.install import EMBEDDED, Installed
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.loader import load_wan
from wan_mcp.schema.enums import Task

Row = dict[str, Any]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
GRIDS = {"480x832, 81 frames": (21, 30, 52), "720x1280, 81 frames": (21, 45, 80)}
HEADS, WIDTH = 40, 128
TINY = {"tiny": (3, 6, 8)}
DENSITIES = (0.5, 0.3, 0.15)
MINI = {"height": 128, "width": 128, "num_frames": 33, "num_inference_steps": 12, "guidance_scale": 3.0}
MINI_GRID, MINI_BLOCK = (9, 8, 8), 32


def main() -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    grids, heads = (TINY, 2) if arguments.tiny else (GRIDS, HEADS)
    rows: list[Row] = []

    def note(row: Row) -> None:
        rows.append(row)
        print(row, flush=True)  # noqa: T201
        if arguments.out or not arguments.tiny:
            keep("attention", rows, *([arguments.out] if arguments.out else []))

    with torch.no_grad():
        for size, grid in grids.items():
            for data in ("like a denoiser's", "normal"):
                trial = _trial(data, grid, heads, device)
                for row in _dense(trial, device):
                    note({"size": size, "tokens": trial.query.shape[1], "data": data} | row)
            for row in _turbo(_trial("like a denoiser's", grid, heads, device), grid, device):
                note({"size": size, "data": "like a denoiser's"} | row)
        for row in _mini(device):
            note({"size": "wan-mini", "data": "recorded"} | row)


def _trial(data: str, grid: tuple[int, int, int], heads: int, device: torch.device) -> AttentionAccuracy:
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    if data == "normal":
        random = torch.Generator(device).manual_seed(0)
        shape = (1, grid[0] * grid[1] * grid[2], heads, WIDTH)
        made = [torch.randn(shape, generator=random, device=device, dtype=dtype) for _ in range(3)]
    else:
        made = [each.to(dtype) for each in synthetic_qkv(WIDTH, grid, heads, device=device)]
    return AttentionAccuracy.on(made[0], made[1], made[2])


def _kernels(device: torch.device) -> Iterator[Kernel]:
    names = [name for name in KERNEL_NAMES if name != "sdpa"] if device.type == "cuda" else ["sdpa"]
    for name in names:
        if name != "math":  # at these sizes it would need terabytes
            kernel = kernel_of(device, name)
            if kernel is not None:
                yield kernel


def _dense(trial: AttentionAccuracy, device: torch.device) -> Iterator[Row]:
    tokens, heads = trial.query.shape[1:3]
    for kernel in _kernels(device):
        took = _milliseconds(kernel, trial)
        rate = 4 * heads * WIDTH * tokens**2 / took / 1e9
        yield {"kernel": kernel.name, "ms": took, "tflops": round(rate, 1)} | _errors(kernel, trial)


def _turbo(trial: AttentionAccuracy, grid: tuple[int, int, int], device: torch.device) -> Iterator[Row]:
    choose_attention(device)
    for density in DENSITIES:
        with attention_mode(Turbo(density, dense_steps=0), grid=grid):
            yield {"turbo": density, "ms": _milliseconds(attend_self, trial)} | _errors(attend_self, trial)


def _milliseconds(kernel: Attend, trial: AttentionAccuracy, times: int = 5) -> float:
    """The median of a few calls, each with nothing else on the device."""
    if not trial.query.is_cuda:
        return float("inf")
    found = [
        milliseconds(lambda: kernel(trial.query, trial.key, trial.value), trial.query.device) for _ in range(times + 1)
    ]
    return round(statistics.median(found[1:]), 3)


def _errors(kernel: Attend, trial: AttentionAccuracy) -> Row:
    error = trial.error(kernel)
    mean = trial.value[0].double().mean(0)
    centred = error * float(trial.exact.norm() / (trial.exact - mean).norm())
    return {"error": round(error, 5), "centred": round(centred, 5)}


def _mini(device: torch.device) -> Iterator[Row]:
    """Errors on what wan-mini computes, averaged over its blocks and steps."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    trials = []
    for one in _recorded():
        query, key, value = (each.to(device, dtype) for each in one)
        trials.append(AttentionAccuracy.on(query, key, value, rows=96))
    for kernel in _kernels(device):
        if 64 in kernel.widths:
            yield {"kernel": kernel.name} | _mean(kernel, trials)
    blocks: BlockKernel = TorchBlocks(MINI_BLOCK)
    for density in DENSITIES:

        def sparse(query: Tensor, key: Tensor, value: Tensor, density: float = density) -> Tensor:
            return attend_sparsely(blocks, query, key, value, density, MINI_GRID)

        yield {"turbo": density, "block": MINI_BLOCK} | _mean(sparse, trials)


def _mean(kernel: Attend, trials: list[AttentionAccuracy]) -> Row:
    rows = [_errors(kernel, trial) for trial in trials]
    found = {name: round(sum(row[name] for row in rows) / len(rows), 5) for name in ("error", "centred")}
    return found | {"worst": max(row["error"] for row in rows)}


def _recorded() -> list[tuple[Tensor, Tensor, Tensor]]:
    """Query, key and value of every self-attention of one video by wan-mini."""
    model = load_wan(
        LoadContext(Catalog(shipped_folder()).get("wan-mini"), Installed(EMBEDDED / "wan-mini"), resolve_device("cpu"))
    )
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    attend = transformer_wan.dispatch_attention_fn

    def listen(query: Tensor, key: Tensor, value: Tensor, *others: Any, **options: Any) -> Tensor:
        if query.shape == key.shape:
            found.append((query, key, value))
        out: Tensor = attend(query, key, value, *others, **options)
        return out

    with contextlib.ExitStack() as stack:
        transformer_wan.dispatch_attention_fn = listen
        stack.callback(setattr, transformer_wan, "dispatch_attention_fn", attend)
        model.pipelines[Task.TEXT_TO_VIDEO](
            prompt="a large red circle moves left on a blue background",
            max_sequence_length=model.manifest.pipeline.text_tokens,
            output_type="latent",
            generator=torch.Generator().manual_seed(1),
            **MINI,
        )
    return found


if __name__ == "__main__":
    main()
