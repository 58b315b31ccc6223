"""Attention to the text: through cuDNN for as long as that takes what it is given."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from wan_mcp.engine.attention import text

GPU = torch.device("cuda", 7)


@dataclass
class OnGpu:
    """As much of a tensor on a GPU as is asked of it here."""

    shape: tuple[int, ...]
    device: torch.device = GPU


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of kernels, in order; cuDNN takes no more than 512 tokens."""
    kernels: list[str] = []

    def attend(query: OnGpu, *_: Any) -> str:
        cudnn = torch.backends.cuda.cudnn_sdp_enabled()
        kernels.append("cudnn" if cudnn else "another")
        if cudnn and query.shape[-2] > 512:
            raise RuntimeError("cuDNN Frontend error: No valid execution plans built.\nmore lines")
        return kernels[-1]

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attend)
    monkeypatch.setattr(text, "kernel_of", lambda *_: "a kernel that proved itself")
    monkeypatch.setattr(text, "_WITHOUT_CUDNN", set())
    return kernels


def attended(tokens: int) -> Any:
    query: Any = OnGpu((1, 40, tokens, 128))
    return text.attend_text(query, query, query)


def test_a_shape_that_cudnn_refuses_goes_to_the_next_kernel_and_cudnn_is_not_asked_again(
    asked: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert attended(512) == "cudnn"
    assert attended(1024) == "another"
    assert attended(1024) == "another"
    assert asked == ["cudnn", "cudnn", "another", "another"]
    [said] = caplog.messages
    assert (
        "without cuDNN from [1, 40, 1024, 128] on: RuntimeError: cuDNN Frontend error: No valid execution plans built."
        in said
    )


def test_an_error_that_is_not_cudnns_is_raised(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        asked.append("any")
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", broken)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        attended(512)
    assert asked == ["any", "any"]
