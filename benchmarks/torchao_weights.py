"""Weights quantized by torchao and by the plain torch of version 0.1.0: time, error and memory.

    python -m benchmarks.torchao_weights                  # on the GPU if there is one, and on the CPU
    python -m benchmarks.torchao_weights --threads 1      # on the CPU with one thread
    python -m benchmarks.torchao_weights --tiny           # the same script in seconds

Kinds of rows. Times are the least of some rounds in which all ways take turns; errors are relative to the norm.

- `fp8`: all linear layers of one block of A14B in e4m3, a scale for each row.
- `int8`: the feed-forward layers of one layer of UMT5-XXL; `product_ms` is one pass of 512 tokens through the three,
  `error` that of its result.
- `encoder`: how far embeddings are off: wan-mini's trained encoder, and two random layers of UMT5-XXL's size in bf16.
- `import`: CPU seconds of importing a pipeline of Wan with and without torchao, in processes of their own.
"""

import argparse
import copy
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torchao.quantization import (
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    PerGroup,
    PerRow,
    quantize_,
)
from transformers import UMT5Config, UMT5EncoderModel

from benchmarks.records import RESULTS
from benchmarks.timing import milliseconds
from devkit.machine import hardware, versions
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.components.install import EMBEDDED, Installed
from wan_mcp.engine.components.text_encoder import GROUP_SIZE, place_text_encoder
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.loader import load_wan
from wan_mcp.engine.ops.fp8_linear import quantize_rowwise
from wan_mcp.engine.ops.quantize_weights import quantize_fp8_rowwise, quantize_int8_groupwise

Row = dict[str, Any]

WIDTH, FFN = 5120, 13824
"""Of a block of A14B."""
TEXT_WIDTH, TEXT_FFN, TOKENS = 4096, 10240, 512
"""Of UMT5-XXL, and the tokens that it reads."""
TINY = (64, 96, 64, 128, 16)
SENTENCES = ["a red circle moving left", "two blue squares rotate on a green background", "a small yellow triangle"]
OURS = "0.1.0: plain torch, a whole layer at once"
NOW = "torchao, some rows at a time"


class PlainInt8(nn.Module):
    """What version 0.1.0 had: groups of 128, whose scale lets their largest number be 127."""

    weight: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        grouped = layer.weight.detach().float().unflatten(1, (-1, math.gcd(128, layer.in_features)))
        scale = (grouped.abs().amax(-1, keepdim=True) / 127).clamp(min=1e-12)
        # T5 looks at the dtype of `weight`, and casts its inputs to it unless it is int8.
        self.register_buffer("weight", (grouped / scale).round().to(torch.int8).flatten(1))
        self.register_buffer("scale", scale)

    def forward(self, inputs: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        weight = self.weight.unflatten(1, (self.scale.shape[1], -1)) * self.scale
        return linear(inputs, weight.flatten(1).to(inputs.dtype))


def configured(config: Callable[[int], Any]) -> Callable[[nn.Linear], nn.Module]:
    """A layer as `quantize_` makes it, by a configuration for its width, from a copy that shares the weight."""

    def convert(layer: nn.Linear) -> nn.Module:
        converted = copy.copy(layer)
        converted._parameters = dict(layer._parameters)
        quantize_(converted, config(layer.in_features))
        return converted

    return convert


def in_groups(group_size: int) -> Callable[[nn.Linear], nn.Module]:
    """A layer as the engine makes it."""

    def convert(layer: nn.Linear) -> nn.Module:
        converted = copy.copy(layer)
        weight = quantize_int8_groupwise(layer.weight, math.gcd(group_size, layer.in_features))
        converted._parameters = {"weight": nn.Parameter(weight, requires_grad=False), "bias": None}
        return converted

    return convert


def groups(group_size: int) -> Callable[[int], Any]:
    """The configuration for groups of a row, as far as they fit its width."""
    return lambda width: Int8WeightOnlyConfig(
        granularity=PerGroup(math.gcd(group_size, width)), set_inductor_config=False
    )


INT8: Mapping[str, Callable[[nn.Linear], nn.Module]] = {
    "0.1.0: plain torch, groups of 128": PlainInt8,
    "Int8WeightOnlyConfig, PerGroup(128)": configured(groups(128)),
    "Int8WeightOnlyConfig, PerGroup(64)": configured(groups(64)),
    "Int8WeightOnlyConfig, PerRow": configured(
        lambda _: Int8WeightOnlyConfig(granularity=PerRow(), set_inductor_config=False)
    ),
    "Int8DynamicActivationInt8WeightConfig, PerRow": configured(
        lambda _: Int8DynamicActivationInt8WeightConfig(set_inductor_config=False)
    ),
    f"now: torchao, groups of {GROUP_SIZE}, some rows at a time": in_groups(GROUP_SIZE),
}


def error(of: Tensor, true: Tensor) -> float:
    """The relative error of a tensor, by the norm."""
    return float((of.double() - true.double()).norm() / true.double().norm())


def stored_bytes(module: nn.Module) -> int:
    """What the tensors of a module take, those inside of torchao's too."""
    inner = ("qdata", "scale", "zero_point")
    parts = [
        [getattr(tensor, name) for name in inner if getattr(tensor, name, None) is not None] or [tensor]
        for tensor in (*module.parameters(), *module.buffers())
    ]
    return sum(tensor.nbytes for part in parts for tensor in part)


def least(calls: Mapping[str, Callable[[], Any]], device: torch.device, rounds: int) -> dict[str, float]:
    """The least milliseconds of each call, all in turns; with one thread those of the CPU, whatever else it runs."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.process_time()
            passed = milliseconds(call, device)
            taken[name].append((time.process_time() - began) * 1e3 if alone else passed)
    return {name: round(min(each), 3) for name, each in taken.items()}


def peak_bytes(call: Callable[[], Any], device: torch.device) -> int | None:
    """What a call takes of a GPU at most, over what was taken before it."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    call()
    return int(torch.cuda.max_memory_allocated(device) - before)


def fp8(width: int, ffn: int, device: torch.device, dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """The weights of one block in FP8."""
    shapes = [(3 * width, width), (width, width), (width, width), (2 * width, width), (width, width)]
    weights = [
        torch.randn(outs, ins, device=device, dtype=dtype) * ins**-0.5
        for outs, ins in (*shapes, (ffn, width), (width, ffn))
    ]
    ways = {OURS: quantize_rowwise, NOW: quantize_fp8_rowwise}

    def convert(way: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        for weight in weights:
            way(weight)

    times = least({name: partial(convert, way) for name, way in ways.items()}, device, rounds)
    for name, way in ways.items():
        made, expected = [way(weight) for weight in weights], [quantize_rowwise(weight) for weight in weights]
        same = all(
            torch.equal(one[0].view(torch.uint8), other[0].view(torch.uint8)) and torch.equal(one[1], other[1])
            for one, other in zip(made, expected, strict=True)
        )
        off = max(error(data.float() * scale, weight) for (data, scale), weight in zip(made, weights, strict=True))
        yield {
            "row": "fp8",
            "device": hardware(device),
            "dtype": str(dtype).removeprefix("torch."),
            "way": name,
            "convert_ms": times[name],
            "same_bits_as_0.1.0": same,
            "error": round(off, 6),
            "peak_bytes": peak_bytes(partial(convert, way), device),
        }


def int8(width: int, ffn: int, tokens: int, device: torch.device, dtype: torch.dtype, rounds: int) -> Iterator[Row]:
    """The feed-forward layers of one layer of an encoder in int8."""
    sizes = [(width, ffn), (width, ffn), (ffn, width)]
    layers = [nn.Linear(ins, outs, bias=False, device=device, dtype=dtype) for ins, outs in sizes]
    inputs = [torch.randn(1, tokens, ins, device=device, dtype=dtype) for ins, _ in sizes]
    for layer in layers:
        nn.init.normal_(layer.weight, std=layer.in_features**-0.5).requires_grad_(False)
    converted = {name: [convert(layer) for layer in layers] for name, convert in INT8.items()}

    def convert_all(convert: Callable[[nn.Linear], nn.Module]) -> None:
        for layer in layers:
            convert(layer)

    def run(through: list[nn.Module]) -> list[Tensor]:
        return [layer(each) for layer, each in zip(through, inputs, strict=True)]

    convert_ms = least({name: partial(convert_all, convert) for name, convert in INT8.items()}, device, rounds)
    product_ms = least({name: partial(run, some) for name, some in converted.items()}, device, rounds)
    true = [linear(each.double(), layer.weight.double()) for layer, each in zip(layers, inputs, strict=True)]
    for name, some in converted.items():
        yield {
            "row": "int8",
            "device": hardware(device),
            "dtype": str(dtype).removeprefix("torch."),
            "way": name,
            "convert_ms": convert_ms[name],
            "product_ms": product_ms[name],
            "error": round(max(error(got, wanted) for got, wanted in zip(run(some), true, strict=True)), 6),
            "bytes": sum(map(stored_bytes, some)),
        }


def replaced(encoder: Any, way: str) -> Any:
    """A copy of an encoder with its feed-forward layers in int8 one way, or placed by the engine."""
    encoder = copy.deepcopy(encoder)
    if way.startswith("now"):
        return place_text_encoder(encoder, torch.device("cpu"), "int8")
    for part in list(encoder.modules()):
        for name, layer in part.named_children():
            if name in ("wi_0", "wi_1", "wo"):
                setattr(part, name, INT8[way](layer))
    return encoder


def trained() -> Iterator[Row]:
    """Embeddings of wan-mini's encoder, against float32."""
    mini = Catalog(shipped_folder()).get("wan-mini")
    pipeline = load_wan(LoadContext(mini, Installed(EMBEDDED / "wan-mini", "sha"), resolve_device("cpu"))).any_pipeline
    original = pipeline.text_encoder

    def embeddings(encoder: Any) -> Tensor:
        pipeline.text_encoder = encoder
        found = [pipeline.encode_prompt(text, do_classifier_free_guidance=False)[0] for text in SENTENCES]
        return torch.cat(found)

    true = embeddings(original)
    ways = {"bf16": copy.deepcopy(original).to(torch.bfloat16)} | {way: replaced(original, way) for way in INT8}
    for way, encoder in ways.items():
        yield {"row": "encoder", "of": "wan-mini", "way": way, "error": round(error(embeddings(encoder), true), 6)}


def random_layers(width: int, ffn: int) -> Iterator[Row]:
    """Embeddings of two random layers in bf16, against float32."""
    torch.manual_seed(0)
    config = UMT5Config(
        vocab_size=100,
        d_model=width,
        d_kv=64,
        d_ff=ffn,
        num_layers=2,
        num_decoder_layers=1,
        num_heads=max(1, width // 64),
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
    )
    encoder = UMT5EncoderModel(config).eval().requires_grad_(False)
    ids = torch.arange(3, 35)[None]
    true = encoder(ids).last_hidden_state
    encoder = encoder.to(torch.bfloat16)
    for way in ("bf16", *INT8):
        few_bits = encoder if way == "bf16" else replaced(encoder, way)
        off = error(few_bits(ids).last_hidden_state, true)
        yield {"row": "encoder", "of": f"two random layers of width {width}", "way": way, "error": round(off, 6)}


IMPORT = """
import gc, sys, time
gc.disable()
if {without}:
    sys.modules["torchao"] = None
began = time.process_time()
import torch
from diffusers.pipelines.wan.pipeline_wan import WanPipeline
spent = time.process_time() - began
import psutil
print(spent, psutil.Process().memory_info().rss, sys.modules.get("torchao") is not None)
"""


def imports(rounds: int) -> Iterator[Row]:
    """What torchao adds to the import of a pipeline."""
    found: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for _ in range(rounds):
        for without, each in found.items():
            code = IMPORT.format(without=without)
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
            spent, resident, there = done.stdout.split()
            assert there == str(not without)
            each.append((float(spent), float(resident)))
    for without, each in found.items():
        cpu_s, memory = (min(numbers) for numbers in zip(*each, strict=True))
        yield {
            "row": "import",
            "torchao": not without,
            "cpu_s": round(cpu_s, 3),
            "median_cpu_s": round(sorted(spent for spent, _ in each)[len(each) // 2], 3),
            "memory_bytes": int(memory),
        }


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, in seconds")
    parser.add_argument("--threads", type=int, help="threads of the CPU; as torch chooses without it")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", type=Path, default=RESULTS / "torchao_weights.json")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    width, ffn, text_width, text_ffn, tokens = TINY if options.tiny else (WIDTH, FFN, TEXT_WIDTH, TEXT_FFN, TOKENS)
    rounds = 2 if options.tiny else options.rounds
    devices = [torch.device("cpu")]
    if torch.cuda.is_available():
        devices.insert(0, torch.device("cuda", 0))
    rows: list[Row] = []

    def keep(some: Iterator[Row]) -> None:
        for row in some:
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)  # noqa: T201

    torch.manual_seed(0)
    with torch.no_grad():
        for device in devices:
            keep(fp8(width, ffn, device, torch.bfloat16, rounds))
            for dtype in (torch.bfloat16, torch.float32) if device.type == "cpu" else (torch.bfloat16,):
                keep(int8(text_width, text_ffn, tokens, device, dtype, rounds))
        keep(trained())
        keep(random_layers(text_width, text_ffn))
    keep(imports(rounds))
    about = {"hardware": [hardware(device) for device in devices], "versions": versions()}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
