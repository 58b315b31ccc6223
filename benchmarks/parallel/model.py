"""Wan2.2 T2V-A14B with random weights in memory, on each rank the same.

All blocks of both experts share the tensors of one block: they take as long as separate blocks would.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel
from torch import Tensor

from benchmarks.h200 import models
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.attention import choose_attention
from wan_mcp.engine.components.install import Installed
from wan_mcp.engine.components.prompt_cache import PromptEmbeddings
from wan_mcp.engine.device.device import Device
from wan_mcp.engine.families.acceleration import Acceleration
from wan_mcp.engine.families.protocol import LoadContext
from wan_mcp.engine.families.wan.denoiser import blank_denoiser
from wan_mcp.engine.families.wan.loader import WanModel
from wan_mcp.engine.families.wan.pipeline import WanRunner
from wan_mcp.engine.families.wan.precision import block_kinds
from wan_mcp.engine.ops.fp8_linear import FP8
from wan_mcp.engine.transformer.fast_blocks import FastBlocks, install_blocks
from wan_mcp.engine.transformer.weight_store import ResidentWeights
from wan_mcp.engine.transformer.weights import block_weights
from wan_mcp.engine.vae.chunked import ChunkedVAE, install_fast_coders
from wan_mcp.schema.enums import Task
from wan_mcp.settings import Settings

MODEL = "wan2.2-t2v-a14b"


@dataclass(frozen=True)
class RandomDenoiser:
    """An expert; what `WanModel.converted` needs of a `Denoiser`."""

    model: Any
    blocks: FastBlocks

    def forget(self) -> None:
        """Forget cached texts and tables."""
        self.blocks.forget_texts()
        self.model.condition_embedder.text_embedder.forget()
        self.model.rope.forget()

    def begin_keeping(self) -> None:
        """Keep nothing: nothing was converted."""

    def finish_keeping(self) -> None:
        """Keep nothing."""


class RandomTexts(PromptEmbeddings):
    """Random embeddings in place of a text encoder's."""

    def __init__(self, device: Device, width: int) -> None:
        super().__init__()
        self._device, self._width = device, width

    def of(self, model: Any, text: str) -> Tensor:
        """Return the embedding of a text: a long prompt, padded with zeros."""
        random = torch.Generator().manual_seed(len(text))
        made = torch.randn(1, 512, self._width, generator=random)
        made[:, models.PROMPT_TOKENS :] = 0
        return made.to(self._device.torch, self._device.dtype)


class NoTokens:
    """A tokenizer whose texts are never too long."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": []}


class RandomModel:
    """What the sections measure, each part made when it is first needed."""

    def __init__(self, device: Device, home: Path, *, tiny: bool) -> None:
        self.device, self.tiny = device, tiny
        self.settings = Settings(home=home, device=str(device.torch), compile=False, min_free_mb=1)
        self.manifest = Catalog(shipped_folder()).get(MODEL)
        self.store = ResidentWeights(device.torch)

    @property
    def config(self) -> dict[str, Any]:
        """Return the configuration of an expert."""
        return models.A14B | (models.TINY["transformer"] if self.tiny else {})

    @cached_property
    def denoiser(self) -> RandomDenoiser:
        """One expert."""
        return self._expert()

    def _expert(self) -> RandomDenoiser:
        device, whole = self.device, blank_denoiser(self.config).config
        kinds = block_kinds(self.manifest, whole, FP8, device.dtype, temb_per_token=False)
        assert kinds is not None
        torch.manual_seed(0)
        torch.set_default_dtype(device.dtype)
        try:
            with torch.device(device.torch):
                model = WanTransformer3DModel(**self.config | {"num_layers": 1})
        finally:
            torch.set_default_dtype(torch.float32)
        for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
            if any(kept in name.split(".") for kept in model._keep_in_fp32_modules):
                parameter.data = parameter.data.float()
        model.eval().requires_grad_(False)
        weights = block_weights(kinds[0], model.blocks[0].state_dict(), device.torch)
        model.blocks = torch.nn.ModuleList()
        model.register_to_config(num_layers=len(kinds))
        choose_attention(device.torch, head_dim=kinds[0].shape.head_dim)
        return RandomDenoiser(model, install_blocks(model, [weights] * len(kinds), self.store))

    @cached_property
    def texts(self) -> RandomTexts:
        """What stands in for the text encoder."""
        return RandomTexts(self.device, self.config["text_dim"])

    @cached_property
    def vae(self) -> Any:
        """The autoencoder."""
        torch.manual_seed(0)
        from diffusers import AutoencoderKLWan

        with torch.device(self.device.torch):
            model = AutoencoderKLWan(**models.VAE | (models.TINY["vae"] if self.tiny else {}))
        return model.to(self.device.dtype).eval().requires_grad_(False)

    @cached_property
    def coders(self) -> ChunkedVAE:
        """Its fast coders."""
        found = install_fast_coders(self.vae)
        assert found is not None
        return found

    @cached_property
    def runner(self) -> WanRunner:
        """What runs plans on both experts, as an engine has it."""
        experts = {"transformer": self.denoiser, "transformer_2": self._expert()}
        scheduler = UniPCMultistepScheduler(
            prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=5.0
        )
        parts = {name: expert.model for name, expert in experts.items()}
        pipeline = WanPipeline(
            tokenizer=NoTokens(), text_encoder=None, vae=self.vae, scheduler=scheduler, boundary_ratio=0.875, **parts
        )
        pipeline.set_progress_bar_config(disable=True)
        context = LoadContext(
            self.manifest, Installed(self.settings.home, "random"), self.device,
            settings=self.settings, acceleration=Acceleration(self.settings, self.device),
        )  # fmt: skip
        pipelines = {Task.TEXT_TO_VIDEO: pipeline, Task.TEXT_TO_IMAGE: pipeline}
        model = WanModel(context, pipelines, "random", self.store, experts, self.coders)  # type: ignore[arg-type]
        return WanRunner(model, self.texts)
