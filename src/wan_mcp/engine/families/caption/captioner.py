"""Captions: a picture and an instruction in, words out.

A family says how its processor is read, what it is given, and what of its answer are new words;
decoding is the same for all. All words that a model reads come with the plan or the manifest.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.engine.components.input_images import open_input
from wan_mcp.engine.components.load_errors import translate_load_errors
from wan_mcp.engine.components.qwen_processor import QwenProcessor
from wan_mcp.engine.device.out_of_memory import retry_with_less
from wan_mcp.engine.device.upload import upload_module
from wan_mcp.engine.families.protocol import LoadContext, unsupported
from wan_mcp.engine.worker.reporter import Reporter
from wan_mcp.schema.enums import Stage
from wan_mcp.schema.plans import CaptionPlan, Plan, Shape

__all__ = ["Captioner", "load_captioner"]

CHECK_TOKENS = 96  # of an answer about what is missing: one short line
YES, NO = ("Yes", "yes", " Yes", " yes", "YES"), ("No", "no", " No", " no", "NO")
FULL_SHARES = 4
"""Frames of a video share the pixels of one picture, down to this part of them each."""


@dataclass(frozen=True)
class CaptionFamily:
    """What sets one family apart."""

    inputs: Callable[[Any, CaptionSpec, str | None, Sequence[Image.Image]], Any]
    """The model's inputs, from its processor, how it is asked, the instruction, and the picture or the frames."""
    echoes: bool = False
    """Whether its answer begins with the tokens that it was given."""


def _prefixed(processor: Any, spec: CaptionSpec, prompt: str | None, pictures: Sequence[Image.Image]) -> Any:
    """Return what BLIP is given: the picture, and the text that it continues, if any."""
    texts = {"text": prompt} if prompt else {}
    return processor(images=pictures[0], return_tensors="pt", **texts)


def _tasked(processor: Any, spec: CaptionSpec, prompt: str | None, pictures: Sequence[Image.Image]) -> Any:
    """Return what Florence-2 is given: the mark of one of its tasks."""
    return processor(text=prompt, images=pictures[0], return_tensors="pt")


def _asked(processor: Any, spec: CaptionSpec, prompt: str | None, pictures: Sequence[Image.Image]) -> Any:
    """Return the conversation in which a chat model is asked, in the words of its template."""
    asked: Any = prompt or ""
    for mark in processor.tokenizer.all_special_tokens:
        asked = asked.replace(mark, "")  # else somebody's text could end the turn, or stand for a picture
    if spec.content == "parts":
        if len(pictures) > 1 and spec.video_prompt:
            asked = f"{spec.video_prompt.replace('{frames}', str(len(pictures)))} {asked}"
        asked = [*({"type": "image"} for _ in pictures), {"type": "text", "text": asked}]
    chat = [{"role": "system", "content": spec.system_prompt}] if spec.system_prompt else []
    chat.append({"role": "user", "content": asked})
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    return processor(text=[text], images=list(pictures), return_tensors="pt")


CAPTION_FAMILIES = {
    "blip": CaptionFamily(_prefixed),
    "florence": CaptionFamily(_tasked),
    "chat": CaptionFamily(_asked, echoes=True),
}


class Captioner:
    """A loaded captioner; the same picture, instruction and seed always give the same caption."""

    def __init__(self, context: LoadContext) -> None:
        manifest, folder, device = context.manifest, context.weights.folder, context.device
        self._spec = manifest.caption or CaptionSpec()
        self._family = CAPTION_FAMILIES[manifest.pipeline.family]
        self._device = device
        self._media = context.media
        self._make_room = context.make_room
        self._processor = _processor(folder)
        self._model = AutoModelForImageTextToText.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, dtype=device.dtype
        )
        upload_module(self._model, device.torch).eval()

    def run(self, job_id: str, plan: Plan, report: Reporter) -> str:
        """Return the caption of a plan's picture; if memory runs out, once more without the other loaded model.

        Raises:
            JobFailed: the plan is of another kind, or its picture is gone.
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """
        if not isinstance(plan, CaptionPlan):
            raise unsupported(plan)
        return retry_with_less(lambda: self._caption(plan, report), self._make_room, self._device)

    def describe(self, pictures: Sequence[Image.Image], instruction: str | None, report: Reporter) -> str:
        """Return what the model says about a picture, or about the frames of a video, without chance.

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """
        inputs = self._inputs(pictures, instruction)
        greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_p": None, "top_k": None}
        return self._written(inputs, min(self._spec.max_new_tokens, CHECK_TOKENS), greedy, report)

    @torch.no_grad()
    def agreement(self, pictures: Sequence[Image.Image], question: str, report: Reporter) -> float:
        """Return how likely the model's answer begins with yes rather than with no (VQAScore, Lin et al. 2024).

        Raises:
            JobCancelled, LeaseLost, EngineShutdown: from `report`.
        """
        report.check()
        scores = self._model(**self._inputs(pictures, question)).logits[0, -1].float().softmax(-1)
        yes, no = (float(scores[self._first_tokens(words)].sum()) for words in (YES, NO))
        return yes / (yes + no) if yes + no > 0 else 0.0

    def _first_tokens(self, words: Sequence[str]) -> list[int]:
        tokenizer = self._processor.tokenizer
        return sorted({tokenizer.encode(word, add_special_tokens=False)[0] for word in words})

    def _inputs(self, pictures: Sequence[Image.Image], prompt: str | None) -> Any:
        scaled = [self._scaled(picture, len(pictures)) for picture in pictures]
        inputs = self._family.inputs(self._processor, self._spec, prompt, scaled)
        return inputs.to(self._device.torch, self._device.dtype)

    def _caption(self, plan: CaptionPlan, report: Reporter) -> str:
        pictures = [open_input(self._media, each) for each in (plan.image, *plan.more_frames)]
        report.enter(Stage.ENCODE)
        inputs = self._inputs(pictures, plan.prompt)
        report.enter(Stage.DENOISE)
        if plan.seed is not None:
            torch.manual_seed(plan.seed)
        return self._written(inputs, plan.max_new_tokens, self._decoding(), report)

    def _written(self, inputs: Any, most: int, decoding: dict[str, Any], report: Reporter) -> str:
        """Return the answer to inputs, of at most so many tokens."""
        written = 0

        def listen(tokens: Any, scores: Any, **_: Any) -> Any:
            nonlocal written
            written += 1
            report.tell(f"{written} of at most {most} tokens")
            return torch.zeros(tokens.shape[0], dtype=torch.bool, device=tokens.device)

        with torch.no_grad():
            answer = self._model.generate(**inputs, max_new_tokens=most, stopping_criteria=[listen], **decoding)[0]
        if self._family.echoes:
            answer = answer[inputs["input_ids"].shape[1] :]
        if written >= most and not self._ended(answer):
            report.note(f"the caption was cut after {most} tokens")
        text: str = self._processor.decode(answer, skip_special_tokens=True)
        return text.strip()

    def needed_bytes(self, shape: Shape) -> int:
        """Return 0: one image and one text need no room that is worth unloading a model for."""
        return 0

    def forget(self) -> None:
        """Do nothing: no caption keeps anything for the next."""

    def close(self) -> None:
        """Do nothing: no work outlasts a caption."""

    def _scaled(self, picture: Image.Image, count: int) -> Image.Image:
        """Return a picture, or a frame that shares the allowed pixels with others, in its size for the model."""
        most = self._spec.max_pixels
        most = None if most is None else max(1, most // min(count, FULL_SHARES))
        if most is None or picture.width * picture.height <= most:
            return picture
        scale = math.sqrt(most / (picture.width * picture.height))
        size = (max(1, int(picture.width * scale)), max(1, int(picture.height * scale)))
        return picture.resize(size, Image.Resampling.LANCZOS)

    def _decoding(self) -> dict[str, Any]:
        """Return the manifest's way of decoding; it overrules that of the weights."""
        spec = self._spec
        if not spec.samples:
            return {"do_sample": False, "num_beams": spec.num_beams, "temperature": None, "top_p": None, "top_k": None}
        chosen = {"temperature": spec.temperature, "top_p": spec.top_p, "top_k": spec.top_k}
        return {"do_sample": True, "num_beams": 1, **chosen}

    def _ended(self, answer: Any) -> bool:
        ends = self._model.generation_config.eos_token_id
        return bool(len(answer)) and int(answer[-1]) in (ends if isinstance(ends, list) else [ends])


def _processor(folder: Path) -> Any:
    """Return the processor of the weights in `folder`."""
    if AutoConfig.from_pretrained(folder, local_files_only=True).model_type.startswith("qwen"):
        return QwenProcessor(folder)
    return AutoProcessor.from_pretrained(folder, local_files_only=True)


def load_captioner(context: LoadContext) -> Captioner:
    """Load a captioner onto the device.

    Raises:
        JobFailed: its weights cannot be read.
    """
    transformers.utils.logging.disable_progress_bar()
    with translate_load_errors(context.manifest, context.weights.folder):
        return retry_with_less(lambda: Captioner(context), context.make_room, context.device)
