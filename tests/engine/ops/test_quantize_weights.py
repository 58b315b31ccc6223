"""Weights quantized by torchao: in FP8 with the bits of before, in int8 nearer to the weights than before."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchao.quantization import Int8WeightOnlyConfig, PerGroup, quantize_

from wan_mcp.engine.ops import quantize_weights
from wan_mcp.engine.ops.fp8_linear import quantize_rowwise
from wan_mcp.engine.ops.quantize_weights import quantize_fp8_rowwise, quantize_int8_groupwise

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(autouse=True)
def chunks_of_three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small weight has several chunks, and a last one that is smaller."""
    monkeypatch.setattr(quantize_weights, "CPU_CHUNK", 3 * 256)


def random_weight(dtype: torch.dtype, rows: int = 8, columns: int = 256) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(rows, columns) * torch.logspace(-3, 1, rows)[:, None]).to(dtype)


def error(of: Tensor, true: Tensor) -> float:
    return float((of.double() - true.double()).norm() / true.double().norm())


@pytest.mark.parametrize("dtype", DTYPES)
def test_weights_in_fp8_have_the_bits_of_those_that_homes_keep_converted(dtype: torch.dtype) -> None:
    weight = random_weight(dtype)
    weight[4] = 0
    for each in (weight, weight.t().contiguous(), weight.t()):
        quantized, scale = quantize_fp8_rowwise(each)
        expected, expected_scale = quantize_rowwise(each)
        assert torch.equal(quantized.view(torch.uint8), expected.contiguous().view(torch.uint8))
        assert torch.equal(scale, expected_scale)
        assert quantized.is_contiguous() and scale.is_contiguous()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("group_size", [64, 256])
def test_weights_in_int8_are_what_the_configuration_of_torchao_makes(dtype: torch.dtype, group_size: int) -> None:
    layer = nn.Linear(256, 8).to(dtype).requires_grad_(False)
    layer.weight.copy_(random_weight(dtype))
    configured, ours = copy.deepcopy(layer), copy.deepcopy(layer)
    quantize_(configured, Int8WeightOnlyConfig(granularity=PerGroup(group_size), set_inductor_config=False))
    converted = quantize_int8_groupwise(layer.weight, group_size)
    ours.weight = nn.Parameter(converted, requires_grad=False)
    theirs: Any = configured.weight
    assert torch.equal(converted.qdata, theirs.qdata)
    assert torch.equal(converted.scale, theirs.scale)
    assert not theirs.zero_point.any(), "they are left out"
    inputs = torch.randn(2, 5, 256).to(dtype)
    assert torch.equal(ours(inputs), configured(inputs))
    assert error(ours(inputs), layer.double()(inputs.double())) < 0.01


@pytest.mark.parametrize("dtype", DTYPES)
def test_groups_of_64_are_nearer_to_the_weights_than_groups_of_128_that_reach_the_largest(dtype: torch.dtype) -> None:
    weight = random_weight(dtype, rows=64)
    grouped = weight.float().unflatten(1, (-1, 128))
    scale = grouped.abs().amax(-1, keepdim=True) / 127
    before = ((grouped / scale).round() * scale).flatten(1)
    now = quantize_int8_groupwise(weight, 64).dequantize(torch.float32)
    assert 0 < error(now, weight) < 0.97 * error(before, weight)


def test_a_row_of_zeros_stays_zero_in_int8() -> None:
    weight = random_weight(torch.bfloat16)
    weight[4] = 0
    assert not quantize_int8_groupwise(weight, 64).dequantize()[4].any()
