"""Self-attention in FP8 through cuDNN's graph API (`nvidia-cudnn-frontend`), which has kernels for Hopper.

There is one graph per shape, built when the shape is first used, then kept. Inputs and output are e4m3: on Hopper the
kernel has no wider output.
"""

import logging
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wan_mcp.engine.attention.fp8_quantize import QuantizedQKV, dequantize_out, quantize_qkv
from wan_mcp.engine.attention.fused_qkv import QKVProjection, output_rows, quantize_projection
from wan_mcp.engine.ops.fp8_linear import FP8_MAX
from wan_mcp.engine.parallel.context_parallel import ContextParallel

__all__ = ["CudnnFp8", "is_long"]

log = logging.getLogger(__name__)

GRAPHS_KEPT = 16
MIN_FLOPS = 1e12
"""Floating-point operations below which quantization costs as much time as the faster kernel saves.

Measured: `benchmarks/results/attention_choices.json`.
"""
NAMES = ("query", "key", "value", "query_scale", "key_scale", "value_scale", "weight_descale", "weight_scale",
         "output_scale", "output", "weight_peak", "output_peak")  # fmt: skip


def is_long(query: Tensor) -> bool:
    """Check whether self-attention of these queries (batch, tokens, heads, head_dim) is worth quantizing its inputs."""
    batch, tokens, heads, width = query.shape
    return bool(4.0 * batch * heads * width * tokens**2 >= MIN_FLOPS)


@dataclass(frozen=True)
class Graph:
    """A built graph for one shape."""

    graph: Any
    workspace_bytes: int


class CudnnFp8:
    """Self-attention in FP8 on one CUDA device."""

    name = "cudnn-fp8"
    widths = (64, 128)

    def __init__(self, device: torch.device) -> None:
        """Load cuDNN.

        Raises:
            ImportError: the package is missing. If it cannot find cuDNN, it raises its own exceptions.
        """
        import cudnn

        self._cudnn = cudnn
        self._device = device
        with torch.cuda.device(device):
            self._handle = cudnn.create_handle()
        self._graphs: dict[tuple[int, ...], Graph] = {}
        self._one = torch.ones(1, device=device)
        self._weight_scale = torch.full((1,), FP8_MAX, device=device)  # softmax weights are at most one
        self._weight_descale = 1 / self._weight_scale
        self._peaks = torch.empty(2, device=device)

    def supports(self, query: Tensor, key: Tensor) -> bool:
        """Check whether this is long self-attention."""
        return query.shape == key.shape and query.shape[-1] in self.widths and is_long(query)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `attend`."""
        inputs = quantize_qkv(query, key, value)
        return dequantize_out(self._output(inputs), inputs, query.dtype)

    def attend_fused(self, projection: QKVProjection, context: ContextParallel | None = None) -> tuple[Tensor, Tensor]:
        """See `FusedKernel`."""
        inputs = quantize_projection(projection, context=context)
        output = self._output(inputs)
        return output_rows(output if context is None else context.to_groups(output), inputs)

    def _output(self, inputs: QuantizedQKV) -> Tensor:
        output = torch.empty(inputs.query.shape, dtype=torch.float8_e4m3fn, device=self._device)
        self.run(inputs.query, inputs.key, inputs.value, inputs.query_scale, inputs.key_scale, output)
        return output

    def run(
        self, query: Tensor, key: Tensor, value: Tensor, query_scale: Tensor, key_scale: Tensor, out: Tensor
    ) -> None:
        """Run the kernel alone on e4m3 tensors (batch, tokens, heads, head_dim), with one number per scale."""
        graph = self._graph(query, out)
        self._cudnn.set_stream(self._handle, torch.cuda.current_stream(self._device).cuda_stream)
        tensors = (query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), query_scale, key_scale, self._one,
                   self._weight_descale, self._weight_scale, self._one, out.transpose(1, 2), self._peaks[:1],
                   self._peaks[1:])  # fmt: skip
        workspace = torch.empty(max(graph.workspace_bytes, 16), dtype=torch.uint8, device=self._device)
        graph.graph.execute(dict(enumerate(tensors, 1)), workspace, handle=self._handle)

    def _graph(self, query: Tensor, out: Tensor) -> Graph:
        key = (*query.shape, *query.stride(), *out.stride())
        if key not in self._graphs:
            if len(self._graphs) >= GRAPHS_KEPT:
                self._graphs.pop(next(iter(self._graphs)))
            began = time.monotonic()
            self._graphs[key] = self._build(query, out)
            log.info("cuDNN's plan for %s: built in %.2f s", tuple(query.shape), time.monotonic() - began)
        return self._graphs[key]

    def _build(self, query: Tensor, out: Tensor) -> Graph:
        cudnn = self._cudnn
        fp8, fp32 = cudnn.data_type.FP8_E4M3, cudnn.data_type.FLOAT
        graph = cudnn.pygraph(
            io_data_type=fp8, intermediate_data_type=fp32, compute_data_type=fp32, handle=self._handle
        )
        uids = {name: number for number, name in enumerate(NAMES, 1)}
        heads, outs = query.transpose(1, 2), out.transpose(1, 2)
        shape, single = tuple(heads.shape), (1, 1, 1, 1)

        def tensor(name: str) -> Any:
            return graph.tensor(uid=uids[name], dim=shape, stride=heads.stride(), data_type=fp8)

        def number(name: str) -> Any:
            return graph.tensor(uid=uids[name], dim=single, stride=single, data_type=fp32)

        output, _, weight_peak, output_peak = graph.sdpa_fp8(
            q=tensor("query"), k=tensor("key"), v=tensor("value"),
            descale_q=number("query_scale"), descale_k=number("key_scale"), descale_v=number("value_scale"),
            descale_s=number("weight_descale"), scale_s=number("weight_scale"), scale_o=number("output_scale"),
            generate_stats=False, attn_scale=query.shape[-1] ** -0.5, use_causal_mask=False,
        )  # fmt: skip
        output.set_uid(uids["output"]).set_output(True).set_dim(shape).set_stride(outs.stride()).set_data_type(fp8)
        for peak, name in ((weight_peak, "weight_peak"), (output_peak, "output_peak")):
            peak.set_uid(uids[name]).set_output(True).set_dim(single).set_stride(single).set_data_type(fp32)
        graph.validate()
        graph.build_operation_graph()
        graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
        graph.check_support()
        graph.build_plans()
        return Graph(graph, int(graph.get_workspace_size()))
