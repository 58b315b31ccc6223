"""Run every kind of model on a CPU as an engine does, and say which operations depend on where their operands lie.

    python -m tests.support.every_layer         # every model, through the engine's package, as all processes of ours
    python -m tests.support.every_layer --late  # one caption, with MKL in use before that package can set its mode

Prints one line of JSON.
"""

import sys

if "--late" in sys.argv:
    import torch

    torch.ones(2, 2) @ torch.ones(2, 2)

import wan_mcp.engine  # noqa: F401, I001  # before torch
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from tests.support.lora_files import write_lora
from tests.support.gguf_files import write_gguf
from tests.support import tiny_models as models
from tests.fixtures.bench import (
    BLIP,
    MANIFESTS,
    ONE,
    Bench,
    caption_plan,
    changed,
    changed_pipeline,
    image_plan,
    video_plan,
)
from tests.support import caption_models
from tests.support import image_models
from tests.support.layouts import shipped_in_small
from tests.support.loading import context_of, runner_in
from tests.support.placed import OFFSETS, Placements, placed
from wan_mcp.catalog.denoisers import Expert, Gguf
from wan_mcp.catalog.manifest import Manifest, Quantization
from wan_mcp.engine.components.install import EMBEDDED
from wan_mcp.engine.components.text_encoder import place_text_encoder
from wan_mcp.engine.device.device import resolve_device
from wan_mcp.engine.device.reproducible import mkl_mode
from wan_mcp.engine.families.wan.loader import load_wan
from wan_mcp.files import sha256_of
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.enums import Task
from wan_mcp.schema.plans import LoraPlan
from wan_mcp.schema.requests import CaptionRequest, ImageRequest
from wan_mcp.weights.installed import ExtraFile

EMBEDDED_MODELS = ("wan-mini", "wan-mini-caption")
TOKENS = 4
"""Of a caption."""
IMAGE_MODELS = {
    "flux2-klein-4b": image_models.save_flux2_klein,
    "qwen-image-2512": image_models.save_qwen_image,
    "qwen-image-edit-2511": image_models.save_qwen_image_edit,
    "z-image-turbo": image_models.save_z_image,
}
CAPTION_MODELS = {
    "florence-2-base": caption_models.save_florence,
    "joycaption-beta-one": caption_models.save_joycaption,
    "qwen3-vl-2b": caption_models.save_qwen3_vl,
}


def save_every_kind(folder: Path) -> None:
    """Write a tiny model of every family beside the two that come with the package."""
    for name in EMBEDDED_MODELS:
        (folder / name).symlink_to(EMBEDDED / name)
    models.save_one_expert(folder / ONE)
    models.save_blip(folder / BLIP)
    for name, save in (IMAGE_MODELS | CAPTION_MODELS).items():
        save(folder / name)


def run_every_kind(folder: Path) -> Iterator[str]:
    """Run the models of `save_every_kind`, and the parts that only some jobs use; name each when it is done.

    Raises:
        AssertionError: an image was another one when its weights had moved.
    """
    bench = Bench(folder / "home", folder)
    yield from wan_jobs(bench)
    yield from moved_weights(bench)
    yield from other_families(bench)
    yield from wan_in_other_precisions(folder)
    bench.store.database.close()


def wan_jobs(bench: Bench) -> Iterator[str]:
    """Jobs of the captioner of the engine's tests, and of a Wan model in all its tasks and with a LoRA."""
    picture = bench.picture()
    bench.run(caption_plan(picture))
    yield "caption"
    bench.run(video_plan(steps=3))
    yield "video"
    bench.run(video_plan(steps=2, task=Task.IMAGE_TO_VIDEO, image=picture))
    yield "video of an image"
    bench.run(image_plan(steps=4, task=Task.IMAGE_TO_IMAGE, image=picture, strength=0.5))
    yield "image of an image"
    file = bench.settings.home / "lora.safetensors"
    write_lora(file, loaded_model(bench).denoisers[0])
    bench.run(image_plan(lora=(LoraPlan(name="lora", file=str(file), sha256=sha256_of(file), scale=0.5, expert=None),)))
    yield "lora"


def moved_weights(bench: Bench) -> Iterator[str]:
    """The same image with the weights of its model at each offset."""
    images = set()
    for offset in OFFSETS:
        for part in loaded_model(bench).any_pipeline.components.values():
            for tensor in (*part.parameters(), *part.buffers()) if isinstance(part, torch.nn.Module) else ():
                tensor.data = placed(tensor.data, offset)
        images.add(Path(bench.run(image_plan()).artifacts[0].path).read_bytes())
    assert len(images) == 1, "the image depends on where its weights lie"
    yield "moved weights"


def loaded_model(bench: Bench) -> Any:
    """The model that the last job used."""
    return runner_in(bench.runner)._model


def other_families(bench: Bench) -> Iterator[str]:
    """Jobs of the embedded models, and of tiny ones in place of all others that are shipped."""
    pipeline_qwenimage_edit_plus.VAE_IMAGE_SIZE = 64 * 64  # else it scales every picture to a megapixel
    pipeline_qwenimage_edit_plus.CONDITION_IMAGE_SIZE = 56 * 56
    shipped = shipped_in_small()
    for name in (*EMBEDDED_MODELS, *IMAGE_MODELS, *CAPTION_MODELS):
        manifest = _embedded(shipped.get(name))
        asked: ImageRequest | CaptionRequest
        if manifest.caption is not None:
            manifest = changed(manifest, caption=manifest.caption.model_copy(update={"max_new_tokens": TOKENS}))
            asked = CaptionRequest(image="the picture", model=name)
        else:
            image = None if Task.TEXT_TO_IMAGE in manifest.tasks else "the picture"
            size = "128x128" if name in EMBEDDED_MODELS else "64x64"
            asked = ImageRequest(prompt="a red circle", resolution=size, steps=2, seed=5, model=name, image=image)
        bench.catalog.manifests[name] = manifest
        bench.run(Planner(bench.settings, bench.catalog).plan(asked, bench.picture() if asked.image else None))
        yield name


def _embedded(manifest: Manifest) -> Manifest:
    weights = manifest.weights.model_copy(update={"embedded": manifest.name, "repository": None})
    return changed(manifest, weights=weights)


@torch.no_grad()
def wan_in_other_precisions(folder: Path) -> Iterator[str]:
    """Forward passes of a denoiser in FP8 and from GGUF, and of a text encoder in int8."""
    cpu = resolve_device("cpu")
    in_fp8 = changed(MANIFESTS[ONE], quantization=Quantization(recipe="fp8-rowwise"))
    _forward(load_wan(context_of(in_fp8, folder / ONE, "fp8")).denoisers[0])
    yield "fp8"
    whole = load_wan(context_of(MANIFESTS[ONE], folder / ONE))
    write_gguf(folder / "q8.gguf", whole.denoisers[0])
    expert = Expert(name="transformer", subfolder="transformer", gguf=Gguf(repository="a/b", file="q8.gguf"))
    in_gguf = changed_pipeline(MANIFESTS[ONE], experts=(expert,))
    files = {("a/b", "q8.gguf"): ExtraFile(folder / "q8.gguf", "")}
    _forward(load_wan(context_of(in_gguf, folder / ONE, extra_files=files)).denoisers[0])
    yield "gguf"
    whole.any_pipeline.register_modules(text_encoder=place_text_encoder(whole.text_encoder, cpu.torch, "int8"))
    whole.encode("a red circle")
    yield "int8"


def _forward(denoiser: Any) -> None:
    latents, text = torch.randn(1, denoiser.config.in_channels, 2, 4, 6), torch.randn(1, 7, 32)
    times = torch.full((1, 2 * 4 * 6 // 4), 700.0)
    denoiser(latents, times, text, return_dict=False)


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        save_every_kind(Path(temporary))
        with Placements() as placements:
            ran = list(islice(run_every_kind(Path(temporary)), 1 if "--late" in sys.argv else None))
    answer = {"ran": ran, "mode": mkl_mode(), "tried": placements.tried, "differing": placements.differing}
    sys.stdout.write(json.dumps(answer) + "\n")
