"""Rounding to FP8 is arranged so that attention hardly notices: measured on a kernel that is simulated in torch."""

import torch
from torch import Tensor

from tests.fixtures.attention import distance, exact
from tests.support.simulated_fp8 import EIGHT_BITS, by_eight_bits
from wan_mcp.engine.attention.fp8_quantize import QuantizedQKV, hadamard, quantize_qkv_reference
from wan_mcp.engine.ops.fp8_linear import FP8_MAX

Data = tuple[Tensor, Tensor, Tensor]


def crudely(query: Tensor, key: Tensor, value: Tensor) -> QuantizedQKV:
    """The usual rounding: one scale for each tensor, and nothing else."""
    scales = [each.abs().amax() / FP8_MAX for each in (query, key, value)]
    query8, key8, value8 = (
        (each / scale).to(EIGHT_BITS) for each, scale in zip((query, key, value), scales, strict=True)
    )
    per_channel = value.shape[0] * value.shape[2], value.shape[3]
    value_scale, value_mean = scales[2].expand(per_channel), torch.zeros(per_channel)
    return QuantizedQKV(query8, key8, value8, scales[0], scales[1], value_scale, value_mean)


def test_a_hadamard_matrix_over_its_root_is_orthonormal() -> None:
    for width in (64, 128):
        matrix = hadamard(width, torch.device("cpu")).double()
        assert torch.equal(matrix @ matrix.T, width * torch.eye(width).double())
        assert set(matrix.unique().tolist()) == {-1.0, 1.0}


def test_attention_in_eight_bits_is_close_and_much_closer_than_with_crude_scales(data: Data) -> None:
    wanted = exact(*data)
    error, crude = (
        distance(by_eight_bits(quantize_qkv_reference(*data)), wanted),
        distance(by_eight_bits(crudely(*data)), wanted),
    )
    assert error < 0.025
    assert crude > 2 * error


def test_keys_and_values_with_large_means_cost_nothing(data: Data) -> None:
    query, key, value = data
    shifted = (query, key + 20 * torch.randn(1, 1, *key.shape[2:]), value + 50 * torch.randn(1, 1, *value.shape[2:]))
    inputs = quantize_qkv_reference(*shifted)
    mean = shifted[2].mean(1, keepdim=True)
    error, wanted = by_eight_bits(inputs) - exact(*shifted), exact(*shifted) - mean
    still = by_eight_bits(quantize_qkv_reference(*data)) - exact(*data)
    assert error.norm() < 1.5 * still.norm() + 1e-3 * wanted.norm()


def test_nothing_but_zeros_stays_zeros() -> None:
    zeros = torch.zeros(1, 40, 2, 64)
    assert torch.equal(by_eight_bits(quantize_qkv_reference(zeros, zeros, zeros)), zeros)


def test_each_batch_and_head_gets_its_own_means(data: Data) -> None:
    query, key, value = (torch.cat([each, each.flip(1) / 2]) for each in data)
    inputs = quantize_qkv_reference(query, key, value)
    means = inputs.value_mean.view(2, 4, 64)
    assert torch.allclose(means, value.mean(1), atol=1e-5)
    for batch in range(2):
        wanted = exact(query[batch : batch + 1], key[batch : batch + 1], value[batch : batch + 1])
        assert distance(by_eight_bits(inputs)[batch : batch + 1], wanted) < 0.03
