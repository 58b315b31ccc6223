"""Parts of A14B's blocks under long load, with the GPU's clock and power, and what stands in their place elsewhere.

    python -m benchmarks.block_parts             # on a GPU that has FP8
    python -m benchmarks.block_parts --tiny      # the same script in seconds, on any CPU

Kinds of rows, at 480x832x81 (32,760 tokens):

- `product`: each matrix product of a block in FP8, all in turns for some seconds; the last and the first of each.
- `load`: what clock and power the GPU had meanwhile, and the clock that it has when it is idle.
- `patches`: the first layer as the convolution of diffusers, and as a product.
- `text`: attention of all tokens to a text of 512, by cuDNN, and to a prompt's, where padding is one token.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.h200.models import PROMPT_TOKENS
from benchmarks.records import RESULTS
from benchmarks.timing import milliseconds
from devkit.machine import hardware, versions
from wan_mcp.engine.attention.cross_attention import attend_context
from wan_mcp.engine.ops.fp8_linear import FP8, quantize_rowwise, scaled_linear
from wan_mcp.engine.ops.quantize_weights import quantize_linear
from wan_mcp.engine.transformer.patch_embed import PatchEmbedLinear

Row = dict[str, Any]
WIDTH, HEADS, FFN, GRID = 5120, 40, 13824, (21, 60, 104)
TINY = (64, 2, 96, (2, 8, 8))
TEXTS = (24, PROMPT_TOKENS + 1, 512)
SECONDS, TIMES = 4.0, 11


def median(call: Callable[[], Any], device: torch.device, times: int) -> float:
    """The median of some calls after one that does not count."""
    call()
    return round(statistics.median(milliseconds(call, device) for _ in range(times)), 4)


def products(width: int, ffn: int, tokens: int, device: torch.device, seconds: float) -> Iterator[Row]:
    """The products in turns, and the load that they are."""
    layers = {"qkv": (3 * width, width), "out": (width, width), "up": (ffn, width), "down": (width, ffn)}
    given = {}
    for name, (outs, ins) in layers.items():
        weight, bias = torch.randn(outs, ins, device=device) * ins**-0.5, torch.randn(outs, device=device) * 0.02
        inputs = torch.randn(tokens, ins, device=device).bfloat16()
        given[name] = (quantize_rowwise(inputs), quantize_linear(weight, bias, FP8, torch.bfloat16))
    idle = torch.cuda.clock_rate(device) if device.type == "cuda" else None
    taken: dict[str, list[float]] = {name: [] for name in layers}
    clocks, powers, began = [], [], time.monotonic()
    while time.monotonic() - began < seconds:
        for name, (rows, layer) in given.items():
            taken[name].append(milliseconds(lambda: scaled_linear(rows, layer, FP8, torch.bfloat16), device))  # noqa: B023
        if device.type == "cuda":
            clocks.append(torch.cuda.clock_rate(device))
            powers.append(torch.cuda.power_draw(device) / 1e3)
    for name, (outs, ins) in layers.items():
        last = statistics.median(taken[name][-TIMES:])
        rate = round(2e-9 * tokens * outs * ins / last)
        yield {
            "row": "product",
            "layer": name,
            "ms": round(last, 4),
            "first_ms": round(taken[name][1], 4),
            "tflops": rate,
        }
    if clocks:
        half = len(clocks) // 2  # the power that is told is an average over the last second
        clock, power = statistics.median(clocks[half:]), statistics.median(powers[half:])
        yield {"row": "load", "clock_mhz": clock, "power_w": round(power), "clock_before_mhz": idle}


def patches(width: int, grid: tuple[int, int, int], device: torch.device, times: int) -> Iterator[Row]:
    """The first layer both ways, up to rows of tokens."""
    latents = torch.randn(1, 16, *grid, device=device).bfloat16()
    convolution = nn.Conv3d(16, width, (1, 2, 2), (1, 2, 2)).to(device, torch.bfloat16)
    for way, layer in {"convolution": convolution, "product": PatchEmbedLinear(convolution)}.items():
        took = median(lambda: layer(latents).flatten(2).transpose(1, 2).contiguous(), device, times)  # noqa: B023
        yield {"row": "patches", "way": way, "ms": took}


def texts(width: int, heads: int, tokens: int, device: torch.device, times: int) -> Iterator[Row]:
    """Attention to the text both ways."""
    query, key, value = (torch.randn(1, n, heads, width // heads, device=device).bfloat16() for n in (tokens, 512, 512))
    if device.type == "cuda":
        q, k, v = (each.transpose(1, 2) for each in (query, key, value))
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION]):
            took = median(lambda: scaled_dot_product_attention(q, k, v), device, times)
        yield {"row": "text", "way": "cuDNN", "keys": 512, "ms": took}
    padding = torch.ones(1, device=device)
    for keys in TEXTS:
        some, of_some = (each[:, :keys].contiguous() for each in (key, value))
        took = median(lambda: attend_context(query, some, of_some, padding), device, times)  # noqa: B023
        yield {"row": "text", "way": "ours", "keys": keys, "ms": took}


@torch.no_grad()
def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    width, heads, ffn, grid = TINY if options.tiny else (WIDTH, HEADS, FFN, GRID)
    tokens, times = grid[0] * grid[1] * grid[2] // 4, 1 if options.tiny else TIMES
    out = options.out or (None if options.tiny else RESULTS / "block_parts.json")
    rows: list[Row] = []
    for some in (
        products(width, ffn, tokens, device, 0.2 if options.tiny else SECONDS),
        patches(width, grid, device, times),
        texts(width, heads, tokens, device, times),
    ):
        for row in some:
            rows.append(row)
            print(row, flush=True)  # noqa: T201
            if out is not None:
                found = {"hardware": hardware(device), "versions": versions(), "rows": rows}
                out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
