"""FP8 attention from one matrix product to the next: as exact as in three steps, used where it may be, else not."""

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from tests.fixtures.attention import GRID, distance
from tests.support.patience import PATIENCE_S
from tests.support.simulated_fp8 import by_eight_bits, output_in_eight_bits
from wan_mcp.engine.aot.compile_main import export_block
from wan_mcp.engine.aot.signature import example_inputs, example_weights
from wan_mcp.engine.attention import Attention, QKVProjection, Turbo, attend_self, attention_in_use, attention_mode
from wan_mcp.engine.attention.accuracy import FusedAccuracy, synthetic_qkv_projection
from wan_mcp.engine.attention.fp8_quantize import quantize_qkv_reference
from wan_mcp.engine.attention.fused_qkv import output_rows_reference, quantize_projection_reference
from wan_mcp.engine.attention.sdpa import TorchKernel
from wan_mcp.engine.attention.selector import _IN_USE, FP8_LIMIT
from wan_mcp.engine.ops.fp8_linear import FP8, PLAIN, quantize_rowwise
from wan_mcp.engine.transformer import block as block_module
from wan_mcp.engine.transformer.block import BlockKind, run_block
from wan_mcp.engine.transformer.config import BlockShape
from wan_mcp.engine.transformer.self_attention import fused_self_attention, uses_fused_attention

CPU = torch.device("cpu")


class InTorch(TorchKernel):
    """The projection kernel, simulated; it counts, and fails if told."""

    def __init__(self) -> None:
        super().__init__("sdpa")
        self.name, self.calls, self.error = "simulated", 0, None

    error: Exception | None

    def attend_fused(self, projection: QKVProjection, context: object = None) -> tuple[Tensor, Tensor]:
        assert context is None
        self.calls += 1
        if self.error is not None:
            raise self.error
        inputs = quantize_projection_reference(projection)
        return output_rows_reference(output_in_eight_bits(inputs), inputs)


@pytest.fixture(scope="module")
def trial() -> FusedAccuracy:
    """A product (1, 315, 3 * 256) of 4 heads, in bf16."""
    return FusedAccuracy.on(synthetic_qkv_projection(64, GRID, heads=4))


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[InTorch]:
    """The simulated kernel, chosen for the CPU."""
    kernel = InTorch()
    monkeypatch.setitem(_IN_USE, CPU, Attention([kernel, TorchKernel("sdpa")], head_dim=64, fused=kernel))
    yield kernel


def inputs_of(projection: QKVProjection) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int, float]:
    return (
        projection.qkv,
        projection.query_norm,
        projection.key_norm,
        projection.cos,
        projection.sin,
        projection.heads,
        projection.eps,
    )


def in_three_steps(projection: QKVProjection) -> tuple[Tensor, Tensor]:
    return quantize_rowwise(attend_self(*projection.to_qkv())[0].flatten(-2))


def same(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
    return bool((one[0].view(torch.uint8) == other[0].view(torch.uint8)).all() and (one[1] == other[1]).all())


def test_joined_it_is_as_exact_as_in_three_steps(trial: FusedAccuracy) -> None:
    apart = by_eight_bits(quantize_qkv_reference(*(each.bfloat16() for each in trial.projection.to_qkv())))
    jointly = by_eight_bits(quantize_projection_reference(trial.projection))
    assert trial.trial.error_of(jointly[0]) < min(0.025, 1.05 * trial.trial.error_of(apart[0]))
    assert trial.error(InTorch().attend_fused) < 0.8 * FP8_LIMIT


def test_bounds_that_look_at_nothing_are_bounds_and_fine_enough_beside_one_channel_that_is_very_strong() -> None:
    made = synthetic_qkv_projection(64, GRID, heads=4)
    for norm in (made.query_norm, made.key_norm):
        norm[77] = 100.0  # in the second head
    trial = FusedAccuracy.on(made)
    inputs = quantize_projection_reference(trial.projection)
    for each in (inputs.query, inputs.key):
        assert each.float().abs().max() < 440
    others = [0, 2, 3]
    output = by_eight_bits(inputs)[0, trial.trial.rows][:, others]
    assert distance(output, trial.trial.exact[:, others]) < 0.025


def test_keys_with_a_large_mean_cost_nothing_though_only_a_sample_of_them_is_looked_at(trial: FusedAccuracy) -> None:
    projection = trial.projection
    shift = torch.cat([torch.zeros(256), 5 * torch.randn(256), 40 * torch.randn(256)]).bfloat16()
    # Without angles, which would keep the keys from having a mean.
    still = replace(projection, cos=torch.ones_like(projection.cos), sin=torch.zeros_like(projection.sin))
    moved = FusedAccuracy.on(replace(still, qkv=projection.qkv + shift))
    value = moved.projection.part(2).float().mean(1)
    error = by_eight_bits(quantize_projection_reference(moved.projection))[0, moved.trial.rows] - moved.trial.exact
    assert error.norm() < 0.05 * (moved.trial.exact - value).norm()


def test_nothing_but_zeros_stays_zeros(trial: FusedAccuracy) -> None:
    rows, scales = InTorch().attend_fused(replace(trial.projection, qkv=torch.zeros_like(trial.projection.qkv)))
    assert not rows.float().any()
    assert scales.isfinite().all()


def test_the_operator_keeps_the_rules_of_operators(trial: FusedAccuracy) -> None:
    torch.library.opcheck(fused_self_attention, inputs_of(trial.projection))


def test_without_a_kernel_for_it_the_operator_takes_the_three_steps(trial: FusedAccuracy) -> None:
    assert same(fused_self_attention(*inputs_of(trial.projection)), in_three_steps(trial.projection))


def test_receipts_tell_the_joined_way_from_the_three_steps(kernel: InTorch) -> None:
    assert attention_in_use(CPU) == "simulated, joined"
    assert Attention([kernel, TorchKernel("sdpa")]).name == "simulated"


def test_the_operator_goes_through_the_kernel_for_it(trial: FusedAccuracy, kernel: InTorch) -> None:
    assert same(fused_self_attention(*inputs_of(trial.projection)), InTorch().attend_fused(trial.projection))
    assert kernel.calls == 1


def test_in_steps_that_leave_out_blocks_the_kernel_is_not_asked(trial: FusedAccuracy, kernel: InTorch) -> None:
    with attention_mode(Turbo(density=0.3, dense_steps=1), grid=GRID) as mode:
        fused_self_attention(*inputs_of(trial.projection))
        assert kernel.calls == 1
        mode.step += 1
        sparse = fused_self_attention(*inputs_of(trial.projection))
        assert same(sparse, in_three_steps(trial.projection))
    assert kernel.calls == 1
    assert not same(sparse, in_three_steps(trial.projection))


def test_where_it_fails_at_a_shape_three_steps_are_taken_and_it_is_not_asked_again_for_it(
    trial: FusedAccuracy, kernel: InTorch, caplog: pytest.LogCaptureFixture
) -> None:
    projection, kernel.error = trial.projection, RuntimeError("out of resource\nmore words")
    for _ in range(2):
        assert same(fused_self_attention(*inputs_of(projection)), in_three_steps(projection))
    assert kernel.calls == 1
    assert "simulated, joined, does not support [1, 315, 4, 64]: RuntimeError: out of resource" in caplog.text
    kernel.error = None
    shorter = replace(projection, qkv=projection.qkv[:, :99], cos=projection.cos[:99], sin=projection.sin[:99])
    fused_self_attention(*inputs_of(shorter))
    assert kernel.calls == 2


def test_a_full_memory_is_not_taken_for_a_broken_kernel(trial: FusedAccuracy, kernel: InTorch) -> None:
    kernel.error = torch.OutOfMemoryError("full")
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            fused_self_attention(*inputs_of(trial.projection))


@pytest.mark.parametrize("better", [True, False])
def test_it_is_used_only_where_its_kernel_is_the_one_for_the_shape(trial: FusedAccuracy, better: bool) -> None:
    kernel, other, last = InTorch(), TorchKernel("flash"), TorchKernel("sdpa")
    kernels = [other, kernel, last] if better else [kernel, last]
    attention = Attention(list(kernels), head_dim=64 if better else 128, fused=kernel)
    assert attention.fused(trial.projection) is None
    assert kernel.calls == 0


class OnlyRows(nn.Module):
    def forward(self, product: Tensor, norm: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        rows, scales = fused_self_attention(product, norm, norm, cos, sin, 4, 1e-6)
        return rows.float() * 2, scales


def test_exported_it_is_one_node_for_all_numbers_of_tokens(trial: FusedAccuracy) -> None:
    projection, length = trial.projection, torch.export.Dim("length", min=16, max=100_000)
    inputs = (projection.qkv, projection.query_norm, projection.cos, projection.sin)
    shapes = ({1: length}, None, {0: length}, {0: length})
    program = torch.export.export(OnlyRows(), inputs, dynamic_shapes=shapes, strict=False)
    assert [str(node.target) for node in program.graph.nodes].count("wan_mcp.fused_self_attention.default") == 1
    some = (inputs[0][:, :100], inputs[1], inputs[2][:100], inputs[3][:100])
    given, wanted = program.module()(*some), OnlyRows()(*some)
    assert all(torch.equal(one, other) for one, other in zip(given, wanted, strict=True))
    assert given[0].shape == (100, 256)


def test_what_loads_packages_has_the_operators_that_they_call() -> None:
    asked = (
        "import wan_mcp.engine.aot.loader, torch; torch.ops.wan_mcp.attend_self, torch.ops.wan_mcp.fused_self_attention"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr


def test_blocks_join_where_both_products_are_in_fp8_on_a_gpu() -> None:
    assert uses_fused_attention(FP8, torch.device("cuda", 0))
    assert not uses_fused_attention(PLAIN, torch.device("cuda", 0))
    assert not uses_fused_attention(FP8, CPU)


@torch.no_grad()
def test_a_block_computes_the_same_with_the_operator_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = BlockKind(BlockShape(256, 4, 96, True, False, 1e-6), FP8, torch.bfloat16)

    def targets() -> list[str]:
        return [str(node.target) for node in export_block(kind, CPU).graph.nodes]

    torch.manual_seed(0)
    hidden, key, value, padding, times, cos, sin = example_inputs(kind, 99, 7, CPU)
    weights = example_weights(kind, CPU)
    apart = run_block(kind, hidden, key, value, padding, times, cos, sin, weights)
    before = targets()
    monkeypatch.setattr(block_module, "uses_fused_attention", lambda scheme, device: scheme == FP8)
    assert torch.equal(run_block(kind, hidden, key, value, padding, times, cos, sin, weights), apart)
    after = targets()
    assert (before.count("wan_mcp.attend_self.default"), before.count("wan_mcp.fused_self_attention.default")) == (1, 0)
    assert (after.count("wan_mcp.attend_self.default"), after.count("wan_mcp.fused_self_attention.default")) == (0, 1)
