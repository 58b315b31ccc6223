"""All private names of diffusers and transformers that the engine uses; nothing else in it uses any.

A new version of either library may change them without notice. `tests/engine/test_compat.py` checks that each exists in
the installed version, and that no other module uses one.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any

from diffusers.hooks._helpers import TransformerBlockMetadata, TransformerBlockRegistry
from diffusers.hooks.first_block_cache import _FBC_LEADER_BLOCK_HOOK
from diffusers.quantizers.gguf.utils import _dequantize_gguf_and_restore_linear
from torch import Tensor, nn

__all__ = [
    "causal_margin",
    "decoder_features",
    "dequantize_gguf",
    "first_block_cache_state",
    "register_wan_block",
    "repeated_blocks",
    "replace_vae_encoder",
    "vae_encode",
]


def register_wan_block(block: type[nn.Module]) -> None:
    """Tell diffusers' step caches that blocks of this class return hidden states alone, like its own Wan blocks."""
    TransformerBlockRegistry.register(
        block, TransformerBlockMetadata(return_hidden_states_index=0, return_encoder_hidden_states_index=None)
    )


def first_block_cache_state(denoiser: Any) -> Any:
    """Return the state of the First Block Cache of a denoiser that it is enabled on, for the current pass.

    Its `should_compute` is whether the pass runs all blocks.
    """
    return denoiser.blocks[0]._diffusers_hook.get_hook(_FBC_LEADER_BLOCK_HOOK).state_manager.get_state()


def dequantize_gguf(part: nn.Module) -> None:
    """Replace the GGUF layers in a part of a model by plain linear layers, in place."""
    _dequantize_gguf_and_restore_linear(part)


def vae_encode(vae: Any, pictures: Tensor) -> Tensor:
    """Encode (batch, 3, frames, height, width) as the class of the autoencoder does; return means and log-variances."""
    moments: Tensor = type(vae)._encode(vae, pictures)
    return moments


def replace_vae_encoder(vae: Any, encode: Callable[[Any, Tensor], Tensor]) -> None:
    """Make an autoencoder encode with `encode(vae, pictures)`, in all pipelines: an alternative to `vae_encode`."""
    vae._encode = MethodType(encode, vae)


def decoder_features(vae: Any) -> dict[str, Any]:
    """Return the arguments that carry a Wan decoder's features from one latent frame to the next.

    They are new with each `vae.clear_cache()`.
    """
    vae._conv_idx = [0]
    return {"feat_cache": vae._feat_map, "feat_idx": vae._conv_idx}


def causal_margin(conv: Any) -> int:
    """Return how many pixels of zeros a `WanCausalConv3d` puts around each frame."""
    return int(conv._padding[0])


def repeated_blocks(part: nn.Module) -> list[nn.Module]:
    """Return the blocks that a model of diffusers or transformers repeats, by the names that its class states."""
    names = set(getattr(part, "_repeated_blocks", None) or getattr(part, "_no_split_modules", None) or ())
    return [module for module in part.modules() if type(module).__name__ in names]
