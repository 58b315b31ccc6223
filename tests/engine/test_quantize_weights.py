"""Weights quantized by torchao: in FP8 with the bits of before."""

import pytest
import torch
from torch import Tensor

from wan_mcp.engine.ops import quantize_weights
from wan_mcp.engine.ops.fp8_linear import quantize_rowwise
from wan_mcp.engine.ops.quantize_weights import quantize_fp8_rowwise

DTYPES = [torch.bfloat16, torch.float16, torch.float32]


@pytest.fixture(autouse=True)
def chunks_of_three_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a small weight has several chunks, and a last one that is smaller."""
    monkeypatch.setattr(quantize_weights, "CPU_CHUNK", 3 * 256)


def random_weight(dtype: torch.dtype, rows: int = 8, columns: int = 256) -> Tensor:
    torch.manual_seed(0)
    return (torch.randn(rows, columns) * torch.logspace(-3, 1, rows)[:, None]).to(dtype)


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
