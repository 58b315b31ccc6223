"""Attention to the text: one token of padding stands for all of it, where that comes out exact."""

import pytest
import torch

from tests.fixtures.attention import distance, exact
from wan_mcp.engine.attention.cross_attention import attend_context, context_kernel, supports_padding_count

CPU = torch.device("cpu")


@pytest.mark.parametrize("times", [1, 2, 450])
@pytest.mark.parametrize("text", [2, 60])
def test_the_last_key_counts_as_often_as_it_is_told_to(text: int, times: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, tokens, 3, 32) for tokens in (50, text, text))
    key_of_all, value_of_all = (torch.cat([each, *[each[:, -1:]] * (times - 1)], 1) for each in (key, value))
    given = attend_context(query, key, value, torch.tensor([float(times)]))
    assert given.shape == query.shape
    assert distance(given, exact(query, key_of_all, value_of_all)) < 1e-6


def test_without_a_kernel_nothing_counts_many_times_in_sixteen_bits() -> None:
    assert supports_padding_count(CPU, 64, torch.float32)
    assert not supports_padding_count(CPU, 64, torch.bfloat16)
    query, key, value = (torch.randn(1, tokens, 3, 32) for tokens in (50, 7, 7))
    given = attend_context(query.bfloat16(), key.bfloat16(), value.bfloat16(), torch.ones(1))
    assert given.dtype == torch.bfloat16
    assert distance(given, exact(query, key, value)) < 0.01


def test_a_kernel_that_cannot_be_had_is_named_once_and_torch_serves(caplog: pytest.LogCaptureFixture) -> None:
    missing = torch.device("cuda", 63)
    assert context_kernel(missing, 64) is None
    assert context_kernel(missing, 64) is None
    [said] = caplog.messages
    assert said.startswith("cross-attention uses torch on cuda:63: ")
