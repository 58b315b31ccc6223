"""What only a GPU shows: the kernels, and real sizes in bf16."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan

from tests.support.loading import context_of
from wan_mcp.catalog.catalog import shipped_folder
from wan_mcp.catalog.manifest import Manifest
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.families.wan.loader import load_wan
from wan_mcp.engine.vae import activations
from wan_mcp.engine.vae.activations import Activations
from wan_mcp.engine.vae.chunk_size import BOUND
from wan_mcp.engine.vae.chunked import ChunkedVAE
from wan_mcp.engine.vae.conv_selector import use_triton_conv

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")]


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = kept


def noise(*shape: int, seed: int = 0) -> Any:
    return torch.randn(shape, generator=torch.Generator("cuda").manual_seed(seed), device="cuda")


def on_cpu(x: Activations) -> Activations:
    parts = (part if part is None else part.cpu() for part in (x.bias, x.residual))
    return Activations(x.value.cpu(), x.length, *parts)


@pytest.mark.parametrize("border", [0, 1])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("channels", [24, 96, 384])
def test_the_fused_passes_compute_what_plain_torch_does(border: int, keep: bool, channels: int) -> None:
    shape = (3, 5, 7, channels)
    x = Activations(noise(*shape), 3, noise(channels, seed=1), noise(*shape, seed=2))
    gamma, plain = noise(channels, seed=3), on_cpu(x)
    outs = [torch.zeros(3, 5 + 2 * border, 7 + 2 * border, channels, device=device) for device in ("cuda", "cpu")]
    for out, each, weight in zip(outs, (x, plain), (gamma, gamma.cpu()), strict=True):
        activations.normalize_into(out, each, weight, active=True, keep=keep, border=border)
    torch.testing.assert_close(outs[0].cpu(), outs[1], rtol=1e-4, atol=1e-5)
    if keep:
        torch.testing.assert_close(x.value.cpu(), plain.value)
    doubled = Activations(noise(3, 5, 7, 2 * channels), 3, noise(2 * channels, seed=4))
    torch.testing.assert_close(
        activations.upsample_nearest(doubled, 2).cpu(),
        activations.upsample_nearest(on_cpu(doubled), 2),
        rtol=1e-5,
        atol=1e-5,
    )


@pytest.mark.parametrize(("outputs", "inputs"), [(96, 96), (192, 192), (384, 192), (8, 96), (160, 160), (256, 512)])
def test_our_convolution_is_proved_on_this_gpu(outputs: int, inputs: int) -> None:
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("it is for Hopper")
    assert use_triton_conv(torch.zeros(outputs, inputs, 3, 3, 3, dtype=torch.bfloat16, device="cuda"))


@pytest.fixture(scope="module")
def exact() -> Any:
    """The autoencoder of Wan2.1 at its real size with random weights, in fp32."""
    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoencoderKLWan().eval().requires_grad_(False)


def test_at_real_size_frames_are_nearer_to_full_precision_than_diffusers_own(exact: Any) -> None:
    latents = noise(1, 16, 5, 32, 32)
    half = AutoencoderKLWan.from_config(exact.config).to("cuda", torch.bfloat16).eval().requires_grad_(False)
    half.load_state_dict(exact.state_dict())
    wanted = exact.decode(latents).sample[0].permute(1, 2, 3, 0)
    usual = half.decode(latents.bfloat16()).sample[0].permute(1, 2, 3, 0).float()
    parts = [pixels for _, pixels in ChunkedVAE(half).decode(latents.bfloat16())]
    given = torch.cat(parts).clamp(-1, 1)
    assert F.mse_loss(given, wanted) <= F.mse_loss(usual, wanted)
    assert 10 * torch.log10(4 / F.mse_loss(given, wanted)) > 40


def test_720p_stays_within_the_bound_on_memory(exact: Any) -> None:
    half = AutoencoderKLWan.from_config(exact.config).to("cuda", torch.bfloat16).eval().requires_grad_(False)
    coders, latents = ChunkedVAE(half), noise(1, 16, 6, 90, 160).bfloat16()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    for _ in coders.decode(latents):
        pass
    assert torch.cuda.max_memory_allocated() - before < BOUND


def test_a_model_that_is_loaded_on_a_gpu_has_the_fast_coders() -> None:
    manifest = Manifest.read(shipped_folder() / "wan-mini.toml")
    model = load_wan(context_of(manifest, EMBEDDED / "wan-mini", device=resolve_device("cuda"), sha256="known"))
    assert model.coders is not None and "_encode" in vars(model.vae)
