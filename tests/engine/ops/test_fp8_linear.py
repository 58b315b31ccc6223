"""FP8 layers: the product of rows that have a scale each."""

import pytest
import torch

from wan_mcp.engine.ops import fp8_linear
from wan_mcp.engine.ops.fp8_linear import FP8, linear
from wan_mcp.engine.ops.quantize_weights import quantize_linear


@pytest.mark.parametrize("scales_rows", [fp8_linear.CPU_SCALES_ROWS, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_row_of_inputs_and_weights_keeps_its_own_scale(
    scales_rows: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fp8_linear, "CPU_SCALES_ROWS", scales_rows)
    random = torch.Generator().manual_seed(2)
    inputs = torch.randn(1, 40, 64, generator=random) * torch.logspace(-3, 3, 40)[:, None]
    weight = torch.randn(48, 64, generator=random) * torch.logspace(-2, 2, 48)[:, None]
    bias = torch.randn(48, generator=random)
    exact = inputs @ weight.t()

    got = linear(inputs, quantize_linear(weight, bias, FP8, dtype), FP8, dtype) - bias

    assert got.dtype == torch.float32 and got.shape == (1, 40, 48)
    # Rows of inputs and of weights differ by a million and by ten thousand: with one scale the small ones vanish.
    size = inputs.norm(dim=-1)[..., None] * weight.norm(dim=-1)
    rounding = (bias.abs().max() * 2**-7 / size) if dtype is torch.bfloat16 else 0
    assert ((got - exact).abs() / size - rounding).max() < 0.02
