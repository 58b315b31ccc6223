"""The quick convolution: the same numbers, and only where it applies."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan, WanCausalConv3d

from tests.fixtures.bench import ONE
from wan_mcp.engine.components.cpu_conv3d import use_onednn
from wan_mcp.engine.families.wan.loader import WanModel


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The calls of oneDNN's convolution."""
    calls: list[Any] = []
    quick = torch.mkldnn_convolution

    def convolve(*arguments: Any) -> Any:
        calls.append(arguments)
        return quick(*arguments)

    monkeypatch.setattr(torch, "mkldnn_convolution", convolve)
    return calls


@pytest.mark.parametrize(
    "make",
    [
        lambda: WanCausalConv3d(8, 12, 3, padding=1),
        lambda: WanCausalConv3d(8, 12, (3, 1, 1), stride=(2, 1, 1)),
        lambda: torch.nn.Conv3d(8, 12, 3, padding=1, groups=4, dilation=2, bias=False),
    ],
)
def test_it_gives_what_the_plain_convolution_gives(make: Callable[[], Any], counted: list[Any]) -> None:
    convolution = make()
    picture = torch.randn(1, 8, 5, 16, 16)
    with torch.no_grad():
        plain = convolution(picture)
        assert not counted
        assert use_onednn(convolution) == 1
        quick = convolution(picture)
    assert len(counted) == 1
    torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-5)


def test_other_precisions_and_gradients_stay_as_they_were(counted: list[Any]) -> None:
    convolution = WanCausalConv3d(4, 4, 3, padding=1)
    use_onednn(convolution)
    picture = torch.randn(1, 4, 3, 8, 8)
    convolution(picture).sum().backward()
    assert convolution.weight.grad is not None
    with torch.no_grad():
        convolution.double()(picture.double())
        convolution.bfloat16()(picture.bfloat16())
    assert not counted


def test_other_paddings_stay_as_they_were(counted: list[Any]) -> None:
    convolution = torch.nn.Conv3d(4, 4, 3, padding=1, padding_mode="replicate")
    picture = torch.randn(1, 4, 3, 8, 8)
    with torch.no_grad():
        plain = convolution(picture)
        use_onednn(convolution)
        assert torch.equal(convolution(picture), plain)
    assert not counted


def test_a_decode_is_that_of_the_plain_vae(load: Callable[[str], WanModel], counted: list[Any]) -> None:
    quick = load(ONE).vae
    plain = AutoencoderKLWan.from_config(quick.config).eval()
    plain.load_state_dict(quick.state_dict())
    latents = torch.randn(1, 48, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = plain.decode(latents, return_dict=False)[0]
        assert not counted
        ours = quick.decode(latents, return_dict=False)[0]
    assert counted
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
