"""On a GPU: the kernels compute what plain torch does, and a package what the kernels do, bit for bit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from wan_mcp.engine.aot.builder import BuildRequest, build
from wan_mcp.engine.aot.cache_key import cache_key_of, kind_to_dict
from wan_mcp.engine.aot.registry import PackageRegistry
from wan_mcp.engine.aot.signature import example_inputs, example_weights
from wan_mcp.engine.attention import QKVProjection, attention_in_use, choose_attention, fused_attention
from wan_mcp.engine.cuda_graphs.capture import CudaGraphCapture
from wan_mcp.engine.ops import modulate as rows
from wan_mcp.engine.ops.fp8_linear import FP8, MIN_GEMM_ROWS, PLAIN
from wan_mcp.engine.ops.modulate import fused_ops_for
from wan_mcp.engine.transformer import block as block_module
from wan_mcp.engine.transformer import self_attention
from wan_mcp.engine.transformer.block import BlockKind, ExportableBlock
from wan_mcp.engine.transformer.config import BlockShape

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(600)]
GPU = torch.device("cuda", 0)


def kind_of(scheme: Any, *, per_token: bool = False, cross_norm: bool = True) -> BlockKind:
    # Widths that are no powers of two, as those of real models.
    return BlockKind(BlockShape(640, 5, 1728, cross_norm, per_token, 1e-6), scheme, torch.bfloat16)


KINDS = [kind_of(scheme, per_token=per_token) for scheme in (PLAIN, FP8) for per_token in (False, True)]
KINDS.append(kind_of(FP8, cross_norm=False))


def apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm())


def named(kind: BlockKind) -> str:
    return f"{kind.scheme}-{'own-times' if kind.shape.temb_per_token else 'one-time'}-{kind.shape.cross_norm}"


@pytest.fixture
def in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Run a block without its kernels."""

    def run(kind: BlockKind, inputs: list[Tensor], weights: list[Tensor]) -> Tensor:
        with monkeypatch.context() as patch:
            patch.setattr(block_module, "fused_ops_for", lambda device: rows)
            patch.setattr(self_attention, "fused_ops_for", lambda device: rows)
            made: Tensor = ExportableBlock(kind)(*inputs, weights)
        return made

    yield run


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS, ids=named)
def test_the_kernels_compute_what_plain_torch_does(kind: BlockKind, in_plain_torch: Any) -> None:
    from wan_mcp.engine.ops import modulate_triton as kernels  # needs Triton

    assert fused_ops_for(GPU) is kernels
    torch.manual_seed(1)
    weights = example_weights(kind, GPU)
    for tokens in (2, 5, MIN_GEMM_ROWS, 333, 4100):  # more rows than programs, too
        inputs = example_inputs(kind, tokens, 77, GPU)
        made = ExportableBlock(kind)(*inputs, weights)
        assert apart(made, in_plain_torch(kind, inputs, weights)) < (0.005 if kind.scheme == PLAIN else 0.03)


@torch.no_grad()
@pytest.mark.parametrize("kind", [kind_of(FP8), kind_of(PLAIN, per_token=True)], ids=named)
def test_a_package_computes_what_the_kernels_do(
    kind: BlockKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = BuildRequest(kind_to_dict(kind), str(GPU), cache_key_of(kind, GPU).hash)
    build(wanted, tmp_path, lambda _: None)
    packages = PackageRegistry(tmp_path)
    run: Any = packages.run({kind}, GPU)
    assert packages.compiled({kind}, GPU) == [wanted.name]
    for tokens in (2, MIN_GEMM_ROWS, 333, 4100, 33000):
        weights, inputs = example_weights(kind, GPU), example_inputs(kind, tokens, 512, GPU)
        assert torch.equal(run(kind, *inputs, weights), ExportableBlock(kind)(*inputs, weights))
    # Also within a CUDA graph, more than once: whatever a call waits for would be refused there.
    recording = CudaGraphCapture(GPU).record(lambda: run(kind, run(kind, *inputs, weights), *inputs[1:], weights))
    recording.replay()
    eager = ExportableBlock(kind)
    assert torch.equal(recording.output, eager(eager(*inputs, weights), *inputs[1:], weights))
    recording.forget()
    assert run.works
    jointly: list[bool] = []

    def noted(projection: QKVProjection) -> tuple[Tensor, Tensor] | None:
        made = fused_attention(projection)
        jointly.append(made is not None)
        return made

    monkeypatch.setattr(self_attention, "fused_attention", noted)
    choose_attention(GPU)  # long sequences may take another way now, in the package as without
    assert torch.equal(run(kind, *inputs, weights), ExportableBlock(kind)(*inputs, weights))
    in_eight_bits = attention_in_use(GPU).startswith("cudnn-fp8")
    assert jointly == ([in_eight_bits] * 2 if kind.scheme == FP8 else [])
    packages.close()
