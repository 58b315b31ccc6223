"""The kernels of a GPU: what is chosen computes attention, and the passes around it do what plain torch does."""

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.fixtures.attention import distance, exact
from wan_mcp.engine.attention import KERNEL_NAMES, Turbo, attend, attend_self, attention_mode, choose_attention
from wan_mcp.engine.attention.accuracy import (
    AttentionAccuracy,
    FusedAccuracy,
    synthetic_qkv,
    synthetic_qkv_projection,
)
from wan_mcp.engine.attention.block_sparse import TorchBlocks, attend_sparsely
from wan_mcp.engine.attention.cross_attention import attend_context, context_kernel
from wan_mcp.engine.attention.fp8_quantize import dequantize_out, quantize_qkv, quantize_qkv_reference
from wan_mcp.engine.attention.fused_qkv import (
    QKVProjection,
    output_rows,
    output_rows_reference,
    quantize_projection,
    quantize_projection_reference,
)
from wan_mcp.engine.attention.selector import FP8_LIMIT, LIMIT, attention_of, kernel_of, sparse_attention_of
from wan_mcp.engine.transformer import self_attention
from wan_mcp.engine.transformer.self_attention import fused_self_attention

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore:cutlass:DeprecationWarning")]  # of their own parts
GRID = (8, 30, 52)
"""12,480 tokens: no block divides them, and they are worth 8 bits."""
Data = tuple[Tensor, Tensor, Tensor]


@pytest.fixture(scope="module")
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    return torch.device("cuda", 0)


@pytest.fixture(scope="module")
def long(gpu: torch.device) -> AttentionAccuracy:
    query, key, value = (each.bfloat16() for each in synthetic_qkv(128, GRID, heads=40, device=gpu))
    return AttentionAccuracy.on(query, key, value)


def needs_hopper(gpu: torch.device) -> None:
    pytest.importorskip("cudnn")
    if torch.cuda.get_device_capability(gpu) != (9, 0):
        pytest.skip("FP8 attention is for Hopper")


@pytest.mark.parametrize("width", [64, 128])
def test_the_passes_round_as_plain_torch_does(gpu: torch.device, width: int) -> None:
    query, key, value = (each.bfloat16() for each in synthetic_qkv(width, (5, 9, 21), 6, device=gpu))
    fused = torch.stack([torch.cat([each, each.flip(1) / 2]) for each in (query, key, value)], 2)
    query, key, value = fused.unbind(2)
    given, wanted = quantize_qkv(query, key, value), quantize_qkv_reference(query, key, value)
    for name in ("query_scale", "key_scale", "value_scale", "value_mean"):
        assert distance(getattr(given, name), getattr(wanted, name).double()) < 1e-4, name
    for name in ("query", "key", "value"):  # now and then a number falls on the other side of a rounding
        assert distance(getattr(given, name).float(), getattr(wanted, name).double()) < 0.01, name
    back = dequantize_out(given.value, given, torch.bfloat16)
    assert back.is_contiguous()
    assert distance(back, fused[:, :, 2].double()) < 0.03


def test_on_hopper_long_sequences_go_through_eight_bits(gpu: torch.device, long: AttentionAccuracy) -> None:
    needs_hopper(gpu)
    assert choose_attention(gpu).name == "cudnn-fp8, joined"
    given = attend_self(long.query, long.key, long.value)
    assert given.is_contiguous()
    assert LIMIT / 2 < long.error(attend_self) < FP8_LIMIT


@pytest.mark.parametrize("name", KERNEL_NAMES)
def test_each_kernel_that_can_be_forced_is_exact(
    gpu: torch.device, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    if name != "sdpa" and kernel_of(gpu, name) is None:
        pytest.skip(f"{name} is not here: {caplog.text}")
    choose_attention(gpu, name)
    assert AttentionAccuracy.of(gpu, 128).error(attend) < (FP8_LIMIT if name.endswith("fp8") else LIMIT)
    choose_attention(gpu)


def test_short_sequences_and_other_keys_stay_in_sixteen_bits(gpu: torch.device, long: AttentionAccuracy) -> None:
    choose_attention(gpu)
    for tokens in (1560, 512):
        some = AttentionAccuracy.on(long.query[:, :1560], long.key[:, :tokens], long.value[:, :tokens])
        assert some.error(attend) < LIMIT
    assert AttentionAccuracy.on(long.query, long.key[:, :512], long.value[:, :512]).error(attend) < LIMIT


@pytest.mark.parametrize(("width", "heads"), [(32, 2), (64, 3), (128, 40)])
@pytest.mark.parametrize("text", [2, 3, 64, 65, 512])
def test_tokens_look_at_the_text_and_padding_counts_many_times(
    gpu: torch.device, width: int, heads: int, text: int
) -> None:
    assert context_kernel(gpu, width) is not None
    torch.manual_seed(text)
    query, key, value = (torch.randn(1, n, heads, width, device=gpu).bfloat16() for n in (333, text, text))
    for times in (1, 400):
        key_of_all, value_of_all = (torch.cat([each, *[each[:, -1:]] * (times - 1)], 1) for each in (key, value))
        given = attend_context(2 * query, key, value, torch.full((1,), float(times), device=gpu))
        assert given.is_contiguous()
        assert distance(given, exact(2 * query, key_of_all, value_of_all)) < LIMIT


def test_two_batches_do_not_mix(gpu: torch.device, long: AttentionAccuracy) -> None:
    choose_attention(gpu)
    query, key, value = (torch.cat([each, each.flip(1)]) for each in (long.query, long.key, long.value))
    first, second = attend_self(query, key, value)
    assert distance(first, second.flip(0).double()) < 0.01


@pytest.mark.parametrize("width", [64, 128])
def test_turbo_leaves_out_the_blocks_that_plain_torch_leaves_out(gpu: torch.device, width: int) -> None:
    needs_hopper(gpu)
    sparse = sparse_attention_of(gpu, width)
    if sparse is None:
        pytest.skip("no kernel for blocks")
    made = (each.bfloat16() for each in synthetic_qkv(width, (11, 30, 52), 40, device=gpu))
    query, key, value = made
    choose_attention(gpu)
    with attention_mode(Turbo(density=0.4, dense_steps=0), grid=(11, 30, 52)):
        given = attend_self(query, key, value)
    some = slice(0, 4)  # heads: the masks of all would not fit
    wanted = attend_sparsely(
        TorchBlocks(), query[:, :, some], key[:, :, some], value[:, :, some], 0.4, (11, 30, 52)
    )  # fmt: skip
    assert distance(given[:, :, some], wanted.double()) < FP8_LIMIT


@pytest.mark.parametrize(("width", "heads", "grid"), [(64, 6, (5, 9, 21)), (128, 5, (3, 7, 61)), (128, 40, (1, 1, 17))])
def test_the_joined_passes_round_as_plain_torch_does(
    gpu: torch.device, width: int, heads: int, grid: tuple[int, int, int]
) -> None:
    projection = FusedAccuracy.on(synthetic_qkv_projection(width, grid, heads, device=gpu)).projection
    product = torch.randn(1, projection.qkv.shape[1], 3 * width * heads + 64, device=gpu).bfloat16()
    product[..., :-64] = projection.qkv
    strided = replace(projection, qkv=product[..., :-64])
    given, wanted = quantize_projection(strided), quantize_projection_reference(projection)
    for name in ("query_scale", "key_scale", "value_scale", "value_mean"):
        assert distance(getattr(given, name), getattr(wanted, name).double()) < 1e-4, name
    for name in ("query", "key", "value"):  # now and then a number falls on the other side of a rounding
        assert distance(getattr(given, name).float(), getattr(wanted, name).double()) < 0.015, name
    (rows, scales), (plain_rows, plain_scales) = (
        output_rows(given.value, given),
        output_rows_reference(given.value, given),
    )
    assert distance(rows.float() * scales, plain_rows.double() * plain_scales) < 0.005


@pytest.mark.parametrize("grid", [GRID, (5, 33, 61)])
def test_joined_attention_is_as_exact_as_in_three_steps(
    gpu: torch.device, grid: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_hopper(gpu)
    assert choose_attention(gpu).name == "cudnn-fp8, joined"
    trial = FusedAccuracy.on(synthetic_qkv_projection(128, grid, 40, device=gpu))
    made = attention_of(gpu).fused(trial.projection)
    assert made is not None

    def by_operator(projection: QKVProjection) -> tuple[Tensor, Tensor]:
        inputs = (projection.qkv, projection.query_norm, projection.key_norm, projection.cos, projection.sin)
        rows, scales = fused_self_attention(*inputs, projection.heads, projection.eps)
        return rows, scales

    jointly = by_operator(trial.projection)
    assert torch.equal(jointly[0].float(), made[0].float())
    assert torch.equal(jointly[1], made[1])
    monkeypatch.setattr(self_attention, "fused_attention", lambda projection: None)
    apart = by_operator(trial.projection)
    assert not torch.equal(jointly[0].float(), apart[0].float())
    error = trial.error(lambda projection: jointly)
    assert error < min(FP8_LIMIT, 1.1 * trial.error(lambda projection: apart))
    assert distance(jointly[0].float() * jointly[1], apart[0].double() * apart[1]) < FP8_LIMIT
