"""Self-attention in FP8 from one matrix product to the next: in three steps, and joined.

    python -m benchmarks.joined_attention              # on a GPU that cuDNN has FP8 attention for
    python -m benchmarks.joined_attention --tiny       # the same script in seconds, on any CPU

The three steps are normalizing and turning, attention (which rounds its inputs itself), and rounding for the next
product. The joined way has fewer passes over memory (`wan_mcp.engine.attention.fused_qkv`). Four kinds of rows:

- `error`: of both ways against float64, see `wan_mcp.engine.attention.accuracy.FusedAccuracy`; `apart` is how far the
  joined way is from the three steps. The scales are those of queries and keys.
- `time`: of both ways whole, in turns.
- `pass`: each alone, at the first size. `kernel` is cuDNN's.
- `block`: a whole block with random weights, with and without the joined operator, in turns.

On a CPU the joined way is the plain torch that its kernels are tested by, its passes are left out, and times are the
host's. Without --out, --tiny writes nothing.
"""

import argparse
import json
import math
import platform
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from benchmarks.h200.models import PROMPT_TOKENS
from benchmarks.records import RESULTS
from benchmarks.timing import milliseconds
from devkit.machine import hardware
from wan_mcp.engine.aot.signature import example_inputs, example_weights
from wan_mcp.engine.attention import QKVProjection, attend, attend_self, choose_attention, fused_attention
from wan_mcp.engine.attention.accuracy import FusedAccuracy, synthetic_qkv_projection
from wan_mcp.engine.attention.cudnn_fp8 import CudnnFp8
from wan_mcp.engine.attention.fp8_quantize import QuantizedQKV, dequantize_out, quantize_qkv, quantize_qkv_reference
from wan_mcp.engine.attention.fused_qkv import (
    LAUNCH_CONFIGS,
    output_rows,
    output_rows_reference,
    quantize_projection,
    quantize_projection_reference,
)
from wan_mcp.engine.attention.selector import kernel_of
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.ops.modulate import NO_CHUNK, fused_ops_for
from wan_mcp.engine.transformer import block
from wan_mcp.engine.transformer.config import BlockShape

Row = dict[str, Any]
Call = Callable[[], Any]
GRIDS = {"480x832, 81 frames": (21, 30, 52), "720x1280, 81 frames": (21, 45, 80)}
HEADS, WIDTH, FFN, TEXT = 40, 128, 13824, PROMPT_TOKENS + 1
TINY_GRIDS = {"tiny": (3, 5, 7)}
TINY_HEADS, TINY_WIDTH, TINY_FFN = 4, 64, 96
TIMES, TINY_TIMES = 20, 2
AT_ONCE = 5
"""Launches of a pass between two events: one alone is short beside them."""
SLEEP_CYCLES = 600_000
"""Of the GPU before the first event: meanwhile the host launches what is measured."""
STEPS, JOINED = "three steps", "joined"
PASSES = ("sum_k_sample", "v_amax_reduce", "finalize_qkv_scales", "quantize_qk", "quantize_v", "requantize_rows")
"""The joined passes: a kernel is named after its pass, and so is its tuning, where it has one."""


class Ways:
    """Both ways from a product to the next one's rows, and their parts, on one device."""

    def __init__(self, device: torch.device, head_dim: int) -> None:
        """Raises RuntimeError on a GPU that cuDNN has no FP8 kernel for."""
        choose_attention(device, head_dim=head_dim)
        self._steps = fused_ops_for(device)
        kernel = kernel_of(device, CudnnFp8.name, head_dim) if device.type == "cuda" else None
        self.kernel = kernel if isinstance(kernel, CudnnFp8) else None
        if device.type == "cuda" and self.kernel is None:
            raise RuntimeError("cuDNN has no FP8 attention here; install wan-mcp[hopper] on a Hopper GPU")

    def normalized(self, projection: QKVProjection) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value as the first step gives them."""
        return projection.to_qkv(self._steps)

    def rows(self, attended: Tensor, projection: QKVProjection) -> tuple[Tensor, Tensor]:
        """The third step; without a modulation any two tensors do."""
        rows, any_ = attended.flatten(-2), projection.cos
        return self._steps.modulate_quantize(
            rows, any_, any_, projection.eps, NO_CHUNK, normalize=False, gelu=False, fp8=True
        )

    def attended(self, projection: QKVProjection) -> Tensor:
        """Attention (1, tokens, heads, head width) after the first two of three steps."""
        return torch.as_tensor(attend_self(*self.normalized(projection)))

    def in_steps(self, projection: QKVProjection) -> tuple[Tensor, Tensor]:
        """Rows and scales after three steps."""
        return self.rows(self.attended(projection), projection)

    def quantize_qkv(self, projection: QKVProjection) -> dict[str, QuantizedQKV]:
        """What the kernel is given on each way."""
        in_steps, jointly = (
            (quantize_qkv, quantize_projection)
            if self.kernel
            else (quantize_qkv_reference, quantize_projection_reference)
        )
        return {STEPS: in_steps(*self.normalized(projection)), JOINED: jointly(projection)}

    def output(self, inputs: QuantizedQKV) -> Tensor:
        """The kernel alone, in e4m3."""
        if self.kernel is None:
            query, key = inputs.query.float() * inputs.query_scale, inputs.key.float() * inputs.key_scale
            return attend(query, key, inputs.value.float()).to(torch.float8_e4m3fn)
        out = torch.empty_like(inputs.query)
        self.kernel.run(inputs.query, inputs.key, inputs.value, inputs.query_scale, inputs.key_scale, out)
        return out

    def jointly(self, projection: QKVProjection) -> tuple[Tensor, Tensor]:
        """Rows and scales of the joined way."""
        if self.kernel is None:
            inputs = quantize_projection_reference(projection)
            return output_rows_reference(self.output(inputs), inputs)
        made = fused_attention(projection)
        if made is None:
            raise RuntimeError("the joined way is not used here; the log says why")
        return made


def main() -> None:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE")
    parser.add_argument("--note", default="", help="what a reader of the results should know")
    arguments = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    file = arguments.out or (None if arguments.tiny else RESULTS / "joined_attention.json")
    found: dict[str, Any] = {"hardware": hardware(device), "versions": _versions(), "note": arguments.note, "rows": []}

    with torch.no_grad():
        for row in _measured(device, tiny=arguments.tiny):
            found["rows"].append(row)
            print(row, flush=True)  # noqa: T201
            if file is not None:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def _versions() -> dict[str, str]:
    there = {each.name: each.version for each in distributions() if each.name in ("triton", "nvidia-cudnn-frontend")}
    return {"python": platform.python_version(), "torch": torch.__version__} | there


def _measured(device: torch.device, *, tiny: bool) -> Iterator[Row]:
    grids, heads, width = (TINY_GRIDS, TINY_HEADS, TINY_WIDTH) if tiny else (GRIDS, HEADS, WIDTH)
    times = TINY_TIMES if tiny else TIMES
    ways = Ways(device, width)
    for number, (size, grid) in enumerate(grids.items()):
        trial = FusedAccuracy.on(synthetic_qkv_projection(width, grid, heads, device=device))
        where = {"size": size, "tokens": trial.projection.qkv.shape[1]}
        for row in _errors(ways, trial):
            yield {"row": "error"} | where | row
        both = {STEPS: partial(ways.in_steps, trial.projection), JOINED: partial(ways.jointly, trial.projection)}
        for row in _in_turns(both, device, times):
            yield {"row": "time"} | where | row
        if number == 0:
            for row in _passes(ways, trial.projection, device, times):
                yield {"row": "pass"} | where | row
    del trial, both
    size, grid = next(iter(grids.items()))
    tokens, shape = math.prod(grid), BlockShape(heads * width, heads, TINY_FFN if tiny else FFN, True, False, 1e-6)
    for row in _block(shape, tokens, device, times):
        yield {"row": "block", "size": size, "tokens": tokens} | row


def _errors(ways: Ways, trial: FusedAccuracy) -> Iterator[Row]:
    projection = trial.projection
    both = ways.quantize_qkv(projection)
    output = ways.output(both[JOINED])[0].float() * both[JOINED].value_scale + both[JOINED].value_mean
    attended = {STEPS: ways.attended(projection)[0], JOINED: output.to(projection.qkv.dtype)}
    made = {STEPS: ways.in_steps(projection), JOINED: ways.jointly(projection)}
    after = {way: (rows.float() * scales).view_as(output) for way, (rows, scales) in made.items()}
    for way, inputs in both.items():
        yield {
            "way": way,
            "error": round(trial.trial.error_of(after[way]), 5),
            "error_before_rows": round(trial.trial.error_of(attended[way]), 5),
            "query_scale": round(inputs.query_scale.item(), 4),
            "key_scale": round(inputs.key_scale.item(), 4),
        } | ({"apart": _apart(after[JOINED], after[STEPS])} if way == JOINED else {})


def _apart(one: Tensor, other: Tensor) -> float:
    return round(float((one - other).norm() / other.norm()), 5)


def _passes(ways: Ways, projection: QKVProjection, device: torch.device, times: int) -> Iterator[Row]:
    query, key, value = ways.normalized(projection)
    attended = ways.attended(projection)
    alone: dict[str, Call] = {
        "normalize": lambda: ways.normalized(projection),
        "rows": lambda: ways.rows(attended, projection),
    }
    if ways.kernel is not None:
        inputs = quantize_qkv(query, key, value)
        output = ways.output(inputs)
        alone |= {
            "round": lambda: quantize_qkv(query, key, value),
            "restore": lambda: dequantize_out(output, inputs, projection.qkv.dtype),
            "kernel": lambda: ways.output(inputs),
        }
    for name, call in alone.items():
        yield {"way": STEPS, "pass": name} | _alone(name, call, device, times)
    if ways.kernel is None:
        return
    with _last_launches() as launches:
        jointly = quantize_projection(projection)
        output_rows(ways.output(jointly), jointly)
    for name in PASSES:
        tuning = {"tuning": asdict(getattr(LAUNCH_CONFIGS, name))} if hasattr(LAUNCH_CONFIGS, name) else {}
        yield {"way": JOINED, "pass": name} | _alone(name, launches[f"{name}_kernel"], device, times) | tuning
    yield {"way": JOINED, "pass": "kernel"} | _alone("kernel", lambda: ways.output(jointly), device, times)


@contextmanager
def _last_launches() -> Iterator[Mapping[str, Call]]:
    """The last launch of each joined kernel within, to be made again."""
    from wan_mcp.engine.attention import fused_qkv_triton as joined_kernels

    launches: dict[str, Call] = {}

    class Listening:
        def __init__(self, name: str) -> None:
            self._name, self._kernel = name, getattr(joined_kernels, name)

        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
            def launch(*given: Any, **options: Any) -> Any:
                launches[self._name] = partial(self._kernel[grid], *given, **options)
                return launches[self._name]()

            return launch

    with patch.dict(vars(joined_kernels), {name: Listening(name) for name in (f"{each}_kernel" for each in PASSES)}):
        yield launches


def _block(shape: BlockShape, tokens: int, device: torch.device, times: int) -> Iterator[Row]:
    kind = block.BlockKind(shape, FP8, torch.bfloat16)
    torch.manual_seed(0)
    weights, inputs = example_weights(kind, device), example_inputs(kind, tokens, TEXT, device)

    def run(*, joined: bool) -> Tensor:
        with patch.object(block, "uses_fused_attention", lambda _recipe, _device: joined):
            out: Tensor = block.ExportableBlock(kind)(*inputs, weights)
            return out

    apart = _apart(run(joined=True).float(), run(joined=False).float())
    for row in _in_turns({STEPS: partial(run, joined=False), JOINED: partial(run, joined=True)}, device, times):
        yield row | ({"apart": apart} if row["way"] == JOINED else {})


def _in_turns(ways: Mapping[str, Call], device: torch.device, times: int) -> list[Row]:
    """Medians and the least, in milliseconds: one after the other, so that a clock that sinks sinks for all."""
    found: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(times + 2):
        for way, call in ways.items():
            taken = milliseconds(call, device, head_start=SLEEP_CYCLES)
            if number >= 2:
                found[way].append(taken)
    return [
        {"way": way, "ms": round(statistics.median(taken), 4), "least_ms": round(min(taken), 4), "times": times}
        for way, taken in found.items()
    ]


def _alone(name: str, call: Call, device: torch.device, times: int) -> Row:
    at_once = 1 if name == "kernel" else AT_ONCE
    taken = [milliseconds(call, device, at_once, head_start=SLEEP_CYCLES) for _ in range(times + 1)][1:]
    return {"ms": round(statistics.median(taken), 4), "times": times}


if __name__ == "__main__":
    main()
