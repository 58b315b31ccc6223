"""Stage 3: train the captioner. `python -m training.captioner --generator build/training/transformer/wan-mini`

BLIP's own objective: the next word of the caption given the picture and the words so far. All pictures are made
first and kept on the device, so that a step is nothing but the model.
"""

import argparse
from pathlib import Path
from random import Random

import torch
from diffusers import WanPipeline
from torch import Tensor
from transformers import BlipForConditionalGeneration

from smallworld import names
from smallworld.render import fitted, to_uint8
from training import caption_layout, layout
from training.report import Report
from training.steps import Average, Schedule
from training.stills import Stills, redrawn

SEED = 3
PEAK_RATE = 1e-3
BATCH = 256
# Batches of 256 pictures made before training: renders, and renders redrawn by the generator.
RENDERED, REDRAWN = 240, 48
_TOKENS = 28


class Bank:
    """Pictures [N, 3, 160, 160] as bytes and their captions' token ids [N, 28], on the device."""

    def __init__(self, generator: WanPipeline, device: torch.device, smoke: bool) -> None:
        self._words = caption_layout.caption_tokenizer()
        rng = Random(SEED)
        generator = generator.to(device)
        pictures, ids = [], []
        count = 4 if smoke else 256
        streams = [Stills(size, SEED * 100 + turn, device, smoke) for turn, size in enumerate(names.FRAME_SIZES)]
        for turn in range(3 if smoke else RENDERED):
            pixels, texts, _ = streams[turn % 3].take(count)
            pictures.append(_bytes(pixels))
            ids.append(self._ids(texts))
        for turn in range(3 if smoke else REDRAWN):
            pixels, texts, shown = streams[turn % 3].take(count, first_frame=True)
            level = (0.5, 0.7, 0.85)[turn // 3 % 3]
            pictures.append(_bytes(redrawn(generator, pixels, shown, level, rng)))
            ids.append(self._ids(texts))
        self._pictures = torch.cat(pictures)
        self._tokens = torch.cat(ids).to(device)

    def __len__(self) -> int:
        return len(self._pictures)

    def _ids(self, texts: list[str]) -> Tensor:
        encoded = self._words(texts, padding="max_length", max_length=_TOKENS, truncation=True, return_tensors="pt")
        ids: Tensor = encoded.input_ids
        return ids

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self), (count,), device=self._pictures.device)
        # Shifted by up to 2 pixels, so that no picture is ever seen twice in the same place.
        down, right = torch.randint(-2, 3, (2,)).tolist()
        pixels = self._pictures[rows].float() / 127.5 - 1
        return torch.roll(pixels, (down, right), (2, 3)), self._tokens[rows]


def _bytes(pictures: Tensor) -> Tensor:
    """Pictures in -1..1 as the processor hands them over (8 bits, fitted, padded), kept in 8 bits."""
    seen = fitted(to_uint8(pictures).float() / 127.5 - 1, caption_layout.IMAGE_SIDE)
    return to_uint8(seen)


def train(
    bank: Bank, steps: int, limit_s: float, device: torch.device, smoke: bool, report: Report
) -> BlipForConditionalGeneration:
    """A trained captioner with averaged weights."""
    torch.manual_seed(SEED)
    model = caption_layout.fresh_captioner(len(caption_layout.caption_tokenizer())).to(device).train()
    parameters = list(model.parameters())
    average = Average(parameters, 0.998)
    fast = device.type == "cuda"
    rate = torch.zeros((), device=device)
    optimiser = torch.optim.AdamW(
        parameters, lr=rate, betas=(0.9, 0.98), weight_decay=0.02, fused=fast, capturable=fast
    )
    schedule = Schedule(steps, limit_s)
    for index, _ in schedule:
        rate.fill_(schedule.rate(PEAK_RATE))
        pixels, ids = bank.draw(4 if smoke else BATCH)
        mask = (ids != 0).long()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast):
            loss = model(
                pixel_values=pixels, input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)
            ).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        average.update()
        if index % 200 == 0:
            report.add(step=index, loss=loss.item())
    report.note(f"{schedule.done} steps of {steps}")
    average.swap()
    model.eval().requires_grad_(False)
    return model


@torch.no_grad()
def accuracy(model: BlipForConditionalGeneration, device: torch.device, smoke: bool) -> float:
    """Share of fresh renders whose caption is right word for word."""
    words = caption_layout.caption_tokenizer()
    right = total = 0
    for turn, size in enumerate(names.FRAME_SIZES):
        pixels, texts, _ = Stills(size, 70_000 + turn, device, smoke).take(4 if smoke else 256, first_frame=True)
        seen = _bytes(pixels).float() / 127.5 - 1
        ids = model.generate(pixel_values=seen, max_new_tokens=caption_layout.CAPTION_TOKENS, do_sample=False)
        said = words.batch_decode(ids, skip_special_tokens=True)
        right += sum(a.strip() == b for a, b in zip(said, texts, strict=True))
        total += len(texts)
    return right / total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--generator", type=Path, default=Path("build/training/transformer/wan-mini"))
    parser.add_argument("--out", type=Path, default=Path("build/training/captioner"))
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--limit-s", type=float, default=430.0, help="finish training within so many seconds")
    parser.add_argument("--smoke", action="store_true", help="a few tiny steps, to test the script on a CPU")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    report = Report(options.out, "captioner", device)
    generator = WanPipeline.from_pretrained(options.generator, local_files_only=True, dtype=torch.float32)
    bank = Bank(generator, device, options.smoke)
    report.note(f"{len(bank)} pictures ready")
    model = train(bank, 3 if options.smoke else options.steps, options.limit_s, device, options.smoke, report)
    model.save_pretrained(options.out / "model")
    report.finish(right_word_for_word=accuracy(model, device, options.smoke))
    layout.publish(options.out / "wan-mini-caption", layout.as_saved(model), caption_layout.processor())


if __name__ == "__main__":
    main()
