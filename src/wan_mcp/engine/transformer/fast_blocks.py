"""The blocks of a running denoiser: one set of tensors each, and one shared function that runs them.

`install_blocks` replaces the blocks of a `WanTransformer3DModel` with them. Pipelines, caches and hooks of diffusers
keep working, because `forward` has the same signature as in the blocks that they replace.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wan_mcp.engine.attention.cross_attention import supports_padding_count
from wan_mcp.engine.parallel.context_parallel import current_context
from wan_mcp.engine.transformer.block import BlockKind, context_keys_values, run_block
from wan_mcp.engine.transformer.patch_embed import PatchEmbedLinear
from wan_mcp.engine.transformer.weight_store import WeightStore
from wan_mcp.engine.transformer.weights import BlockWeights

__all__ = ["CONTEXTS_KEPT", "FastBlock", "FastBlocks", "RunBlock", "install_blocks"]

RunBlock = Callable[[BlockKind, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, list[Tensor]], Tensor]
"""A function that runs a block: `run_block` itself, or a compiled package with the same arguments."""
MIN_CONTEXT_TOKENS = 2
"""Minimum number of text tokens: compilers specialize on one."""
CONTEXTS_KEPT = 2  # with classifier-free guidance a step reads two texts


class FastBlock(nn.Module):
    """One block: its kind and index, and the text's keys and values, computed when a text is first used."""

    def __init__(self, kind: BlockKind, number: int, shared: "FastBlocks") -> None:
        super().__init__()
        self.kind = kind
        self._number = number
        self._shared = [shared]  # in a list, so that it is not registered as a submodule
        self._texts: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor, temb: Tensor, rotary_emb: tuple[Tensor, Tensor]
    ) -> Tensor:
        """See `WanTransformerBlock`; `rotary_emb` has each angle once, see `RotaryTables`.

        If ranks share the forward, the first block keeps this rank's tokens, and the last returns all tokens.
        """
        kind, shared, context = self.kind, self._shared[0], current_context()
        if context is not None:
            if self._number == 0:
                context.begin(hidden_states.shape[1])
                hidden_states = context.mine(hidden_states, 1).contiguous()
            rotary_emb = context.mine(rotary_emb[0], 0), context.mine(rotary_emb[1], 0)
            temb = context.mine(temb, 1).contiguous() if temb.ndim == 4 else temb
        if kind.shape.temb_per_token and temb.ndim == 3:  # a pipeline with one timestep for all tokens
            temb = temb[:, None].expand(-1, hidden_states.shape[1], -1, -1).contiguous()
        temb = temb.to(kind.dtype)
        key, value = self._text(encoder_hidden_states)
        padding = shared.texts.padding_of(encoder_hidden_states)
        weights = shared.weight_store.get((shared.denoiser, self._number))
        out = shared.run(kind, hidden_states, key, value, padding, temb, *rotary_emb, weights)
        return context.gathered(out) if context is not None and self._number == shared.last else out

    def known(self, text: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the cached keys and values of a prepared text, if any."""
        return next(((key, value) for known, key, value in self._texts if known is text), None)

    def _text(self, text: Tensor) -> tuple[Tensor, Tensor]:
        if (found := self.known(text)) is not None:
            return found
        shared = self._shared[0]
        weights = shared.weight_store.get_context((shared.denoiser, self._number))
        key, value = context_keys_values(self.kind, text, weights)
        self._texts = [*self._texts[-CONTEXTS_KEPT + 1 :], (text, key, value)]
        return key, value

    def forget(self) -> None:
        """Forget the cached texts."""
        self._texts = []


class FastBlocks:
    """All fast blocks of one denoiser, and the function that runs them."""

    def __init__(
        self, weights: Sequence[BlockWeights], weight_store: WeightStore, rotary: "RotaryTables", texts: "ContextCache"
    ) -> None:
        self.weight_store = weight_store
        self._rotary, self.texts = rotary, texts
        self.denoiser = weight_store.add(weights)
        """The denoiser's index in the weight store."""
        self.run: RunBlock = run_block
        """Runs a block; may be replaced between two forwards."""
        self.changes = 0
        """Incremented when weights are replaced or texts forgotten: saved references to inputs are then stale."""
        self._blocks = [FastBlock(each.kind, number, self) for number, each in enumerate(weights)]
        self.blocks = nn.ModuleList(self._blocks)
        self.last = len(weights) - 1
        """The last block's index."""

    @property
    def kinds(self) -> set[BlockKind]:
        """Return the kinds of the blocks: one, or two if a manifest excludes some blocks from quantization."""
        return {block.kind for block in self._blocks}

    def replace(self, weights: Sequence[BlockWeights]) -> None:
        """Replace the blocks' weights by others of the same kinds, between two forwards."""
        self.weight_store.replace(self.denoiser, weights)
        self.forget_texts()

    def drop(self) -> None:
        """Drop the weights, until `replace` sets others."""
        self.weight_store.drop(self.denoiser)
        self.forget_texts()

    def forget_texts(self) -> None:
        """Forget the texts of previous jobs."""
        self.changes += 1
        for block in self._blocks:
            block.forget()

    def static_inputs(self, latents: Tensor, text: Tensor) -> list[Tensor] | None:
        """Return the cached inputs of a forward over these latents and this text: tables, prepared text, keys, values.

        Return None if any of them is not cached yet.
        """
        tables, prepared = self._rotary.known(latents), self.texts.known(text)
        if tables is None or prepared is None:
            return None
        found: list[Tensor] = [*tables, prepared, self.texts.padding_of(prepared)]
        for block in self._blocks:
            pair = block.known(prepared)
            if pair is None:
                return None
            found += pair
        return found


class RotaryTables(nn.Module):
    """The rotary tables with each angle once: (tokens, head_dim / 2) float32, cached for the last size."""

    def __init__(self, rope: Any) -> None:
        super().__init__()
        self.rope = rope
        self._last: tuple[torch.Size, torch.device, tuple[Tensor, Tensor]] | None = None

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        if (found := self.known(latents)) is not None:
            return found
        cos, sin = self.rope(latents)
        # diffusers repeats every angle for the two channels that it rotates, and has a dimension for the heads.
        tables = tuple(table[0, :, 0, ::2].float().to(latents.device).contiguous() for table in (cos, sin))
        self._last = (latents.shape[2:], latents.device, (tables[0], tables[1]))
        return self._last[2]

    def known(self, latents: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the cached tables for these latents, if the size is the same as last time."""
        if self._last is None or self._last[:2] != (latents.shape[2:], latents.device):
            return None
        return self._last[2]

    def forget(self) -> None:
        """Forget the tables."""
        self._last = None


class ContextCache(nn.Module):
    """The layers that prepare the text for a denoiser, run once per text instead of at every step.

    Pipelines pad texts to a fixed length. One token of the padding is kept and weighted by the number of padding
    tokens. For a known text the same tensor object is returned, by which the blocks recognize it.
    """

    def __init__(self, embedder: nn.Module, kinds: Collection[BlockKind]) -> None:
        """Wrap `embedder`; `kinds` are the kinds of the blocks that read the text."""
        super().__init__()
        self.embedder = embedder
        self._reading = {(kind.shape.head_dim, kind.dtype) for kind in kinds}
        self._texts: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, text: Tensor) -> Tensor:
        prepared = self.known(text)
        if prepared is None:
            folds = all(supports_padding_count(text.device, width, dtype) for width, dtype in self._reading)
            kept, padding = _folded(text) if folds else (text, _once(text))
            prepared = self.embedder(kept)
            self._texts = [*self._texts[-CONTEXTS_KEPT + 1 :], (text, prepared, padding)]
        return prepared

    def known(self, text: Tensor) -> Tensor | None:
        """Return the prepared tensor of this text, if cached."""
        return next((prepared for known, prepared, _ in self._texts if known is text), None)

    def padding_of(self, prepared: Tensor) -> Tensor:
        """Return how many tokens the last one of a prepared text represents: (1), float32."""
        found = next((padding for _, known, padding in self._texts if known is prepared), None)
        return _once(prepared) if found is None else found

    def forget(self) -> None:
        """Forget the cached texts."""
        self._texts = []


def _once(text: Tensor) -> Tensor:
    return torch.ones(1, dtype=torch.float32, device=text.device)


def _folded(text: Tensor) -> tuple[Tensor, Tensor]:
    """Return a text (1, tokens, width) up to its first padding token (all zeros), and the number that it represents."""
    tokens = text.shape[1]
    filled = text[0].ne(0).any(-1).nonzero()
    kept = max(MIN_CONTEXT_TOKENS, int(filled[-1]) + 2) if len(filled) else MIN_CONTEXT_TOKENS
    if len(text) != 1 or kept >= tokens:
        return text, _once(text)
    return text[:, :kept].contiguous(), _once(text) * (tokens - kept + 1)


def install_blocks(denoiser: Any, weights: Sequence[BlockWeights], weight_store: WeightStore) -> FastBlocks:
    """Replace the blocks of a `WanTransformer3DModel` by fast ones with these weights, placed in `weight_store`.

    The layers around the blocks (timesteps, the last projection) are unchanged.
    """
    rotary = RotaryTables(denoiser.rope)
    texts = ContextCache(denoiser.condition_embedder.text_embedder, {block.kind for block in weights})
    fast = FastBlocks(weights, weight_store, rotary, texts)
    denoiser.blocks, denoiser.rope, denoiser.condition_embedder.text_embedder = fast.blocks, rotary, texts
    denoiser.patch_embedding = PatchEmbedLinear(denoiser.patch_embedding)
    return fast
