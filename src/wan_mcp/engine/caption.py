"""Captions: a picture and an instruction in, a sentence out.

Each family of captioners is a class with `caption`; `load_captioner` picks it. There is one so
far: BLIP, which sees the picture and continues a text, if any.
"""

from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from wan_mcp.engine.devices import Device
from wan_mcp.engine.reporter import Reporter
from wan_mcp.errors import JobFailed
from wan_mcp.manifests import Manifest
from wan_mcp.specs import CaptionPlan, Stage

__all__ = ["BlipCaptioner", "load_captioner"]


class BlipCaptioner:
    """BLIP's image-to-text model; the same picture always gets the same caption."""

    def __init__(self, folder: Path, device: Device) -> None:
        self._device = device
        self._processor = AutoProcessor.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=device.dtype
        )
        self._model.to(device.torch).eval()

    def caption(self, plan: CaptionPlan, picture: Image.Image, report: Reporter) -> str:
        """The caption of an RGB picture.

        Raises:
            JobCancelled, JobLost, EngineLeaves: from `report`.
        """
        report.enter(Stage.ENCODE)
        texts = {"text": plan.prompt} if plan.prompt else {}
        inputs = self._processor(images=picture, return_tensors="pt", **texts).to(
            self._device.torch, self._device.dtype
        )
        report.enter(Stage.DENOISE)
        written = 0

        def listen(tokens: Any, scores: Any, **_: Any) -> Any:
            nonlocal written
            written += 1
            report.tell(f"{written} of at most {plan.max_new_tokens} tokens")
            return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)

        with torch.no_grad():
            tokens = self._model.generate(
                **inputs, max_new_tokens=plan.max_new_tokens, do_sample=False, stopping_criteria=[listen]
            )
        text: str = self._processor.decode(tokens[0], skip_special_tokens=True)
        return text.strip()


FAMILIES = {"blip": BlipCaptioner}


def load_captioner(manifest: Manifest, folder: Path, device: Device) -> BlipCaptioner:
    """Load the captioner in `folder` onto the device.

    Raises:
        JobFailed: its weights cannot be read.
    """
    transformers.utils.logging.disable_progress_bar()
    try:
        return FAMILIES[manifest.pipeline.family](folder, device)
    except (OSError, ValueError, KeyError) as error:
        raise JobFailed(
            "model_broken",
            f"The weights of '{manifest.name}' in {folder} cannot be loaded ({type(error).__name__}); "
            "install them again.",
        ) from error
