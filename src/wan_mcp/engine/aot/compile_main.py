"""Export and compile one block, in the process `python -m wan_mcp.engine.aot.compile_main`.

One process compiles one package: the compiler keeps state, and a second compilation in one process can fail.
"""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.export import Dim, ExportedProgram

from wan_mcp.engine.aot.cache_key import cache_key_of, kind_from_dict, known_flags
from wan_mcp.engine.aot.child_process import exit_with_parent
from wan_mcp.engine.aot.gpu_budget import limit_gpu_memory
from wan_mcp.engine.aot.signature import ACTIVATIONS, dynamic_sizes, example_inputs, example_weights, expected_inputs
from wan_mcp.engine.attention.cross_attention import context_kernel
from wan_mcp.engine.ops.modulate import fused_ops_for
from wan_mcp.engine.transformer.block import BlockKind, ExportableBlock
from wan_mcp.logs import log_to_stderr
from wan_mcp.text import in_bytes

__all__ = ["compile_block", "export_block"]

log = logging.getLogger("wan_mcp.engine.aot.compile_main")  # it runs as `__main__`

EXAMPLE = {"tokens": 2048, "text": 512}
"""Sizes that the compiler tunes for: enough rows that it does not split one, few enough to need little memory."""


def export_block(kind: BlockKind, device: Any) -> ExportedProgram:
    """Return the block as a graph with dynamic token counts; nothing is computed or allocated on `device`."""
    with FakeTensorMode() as fake, torch.no_grad():
        inputs = example_inputs(kind, EXAMPLE["tokens"], EXAMPLE["text"], device)
        weights = example_weights(kind, device)
    sizes = {name: Dim(name, min=least, max=most) for name, (least, most) in dynamic_sizes(kind, device).items()}
    named = {item.name: item.shape for item in expected_inputs(kind)}
    shapes = [
        {place: sizes[size] for place, size in enumerate(named[name]) if isinstance(size, str)} or None
        for name in ACTIVATIONS
    ]
    with torch.no_grad(), fake:
        return torch.export.export(
            ExportableBlock(kind), (*inputs, weights), dynamic_shapes=(*shapes, [None] * len(weights)), strict=False
        )


def compile_block(kind: BlockKind, device: Any, file: Path) -> None:
    """Write the package for this kind and device to `file`.

    Raises:
        RuntimeError, or another exception of the compiler.
    """
    log.info("exporting a block of width %d, %s, for %s", kind.shape.width, kind.scheme, device)
    fused_ops_for(device)  # checks whether the GPU kernels work, which the export does not
    context_kernel(device, kind.shape.head_dim)  # likewise
    program = export_block(kind, device)
    log.info("compiling")
    metadata = {"aot_inductor.metadata": {"wan_mcp": cache_key_of(kind, device).hash}}
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(file), inductor_configs=known_flags() | metadata
        )


def main(arguments: list[str]) -> None:
    """Write the package of `KIND DEVICE FILE` to the file, and print what it is as JSON."""
    exit_with_parent()
    log_to_stderr("INFO")
    kind, device, file = kind_from_dict(json.loads(arguments[0])), torch.device(arguments[1]), Path(arguments[2])
    limit_gpu_memory(device)
    compile_block(kind, device, file)
    if device.type == "cuda":
        log.info("compilation used %s of GPU memory", in_bytes(torch.cuda.max_memory_reserved(device)))
    inputs = [item.model_dump(mode="json") for item in expected_inputs(kind)]
    facts = {"identity": cache_key_of(kind, device).facts, "inputs": inputs, "dynamic": dynamic_sizes(kind, device)}
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
