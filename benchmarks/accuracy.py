"""How well `wan-mini` does what the prompt says. `python -m benchmarks.accuracy`

Generates with the unchanged pipelines at their default settings and has the judge look at the frames: text -> video
over seen and held-out combinations, image -> video, and the captioner on renders and on generated stills. Writes the
figures with hardware and versions to `benchmarks/results/wan_mini_accuracy.json`.
"""

import argparse
import json
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
import torch
from diffusers import WanImageToVideoPipeline, WanPipeline
from numpy.typing import NDArray
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from devkit.machine import hardware, versions
from smallworld.captions import Caption, Picture, Thing, caption, motion_only, pictures
from smallworld.judge import Asked, AskedThing, SeenClip, SeenThing, Verdict, compare, look
from smallworld.judge.sentences import read
from smallworld.render import render, to_uint8
from smallworld.world import Scenes, sample

EMBEDDED = Path("src/wan_mcp/embedded")
RESULT = Path("benchmarks/results/wan_mini_accuracy.json")
SIZE, FRAMES, STEPS, GUIDANCE, TEXT_TOKENS = (128, 128), 17, 12, 3.0, 48
SEED = 20_000
Frames = NDArray[np.uint8]


def asked(picture: Picture) -> Asked:
    """A prompt's names in the judge's words."""
    return Asked(tuple(AskedThing(t.shape, t.colour, t.size, t.motion) for t in picture.things), picture.background)


def prompts(count: int, kind: str) -> list[Caption]:
    """`count` prompts about one object, a pair, or one object in a combination that training never saw."""
    rng = Random(SEED)
    scenes = pictures(sample(20 * count, SIZE, FRAMES, SEED, "held out" if kind == "held out" else "seen"))
    objects = 2 if kind == "pair" else 1
    told = (caption(picture, rng) for picture in scenes if len(picture.things) == objects)
    # A held-out combination is one only if the prompt names all of it.
    whole = (c for c in told if kind != "held out" or _names_all(c.named))
    return [each for each, _ in zip(whole, range(count), strict=False)]


def _names_all(named: Picture) -> bool:
    return all(thing.colour and thing.shape and thing.motion for thing in named.things)


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def videos(pipeline: WanPipeline, texts: list[str], batch: int, **changes: Any) -> Iterator[Frames]:
    """Clips [T, H, W, 3] for the texts, each from its own seed (so the batch size does not matter)."""
    settings = {
        "height": SIZE[1], "width": SIZE[0], "num_frames": FRAMES, "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE, "max_sequence_length": TEXT_TOKENS, "output_type": "np",
    } | changes  # fmt: skip
    numbered = list(enumerate(texts))
    for part in batches(numbered, batch):
        generators = [torch.Generator("cpu").manual_seed(number) for number, _ in part]
        clips = pipeline(prompt=[text for _, text in part], generator=generators, **settings).frames
        yield from (clips * 255).round().astype(np.uint8)


def _looked(frames: Frames) -> SeenClip:
    cv2.setNumThreads(1)
    return look(frames)


def tally(verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Share right per attribute (of the prompts that name it), of the object count, and of all at once."""
    verdicts = list(verdicts)
    named = {name: [v for verdict in verdicts if (v := vars(verdict)[name]) is not None] for name in vars(verdicts[0])}
    shares = {name: round(sum(values) / len(values), 4) for name, values in named.items() if values}
    return {"prompts": len(verdicts), **shares, "all": round(sum(v.all_right for v in verdicts) / len(verdicts), 4)}


def text_to_video(
    pipeline: WanPipeline, counts: dict[str, int], batch: int, pool: ProcessPoolExecutor
) -> dict[str, Any]:
    result: dict[str, Any] = {}
    every: list[Verdict] = []
    by_name: dict[str, Counter[str]] = defaultdict(Counter)
    for kind, count in counts.items():
        told = prompts(count, kind)
        seen = list(pool.map(_looked, videos(pipeline, [c.text for c in told], batch)))
        verdicts = [compare(asked(c.named), s) for c, s in zip(told, seen, strict=True)]
        result[kind] = tally(verdicts)
        every += verdicts
        for c, verdict in zip(told, verdicts, strict=True):
            for thing in c.named.things:
                if len(c.named.things) == 1:
                    _note(by_name, f"shape {thing.shape}", verdict.shape)
                    _note(by_name, f"motion {thing.motion}", verdict.motion)
        print(kind, result[kind], file=sys.stderr, flush=True)  # noqa: T201
    result["every prompt"] = tally(every)
    result["one object, by name"] = {
        name: round(seen["right"] / seen["all"], 3) for name, seen in sorted(by_name.items())
    }
    return result


def _note(by_name: dict[str, Counter[str]], name: str, right: bool | None) -> None:
    if right is not None:
        by_name[name].update({"all": 1, "right": int(right)})


def image_to_video(pipeline: WanImageToVideoPipeline, count: int) -> dict[str, Any]:
    """First frames of fresh renders set in motion, half by prompts that name only the motion."""
    rng = Random(SEED + 1)
    scenes = sample(count, SIZE, FRAMES, SEED + 1)
    images = to_uint8(render(scenes, frames=1))[:, :, 0].permute(0, 2, 3, 1).numpy()
    fidelity, motions = [], defaultdict(list)
    for number, (picture, image) in enumerate(zip(pictures(scenes), images, strict=True)):
        told = motion_only(picture, rng) if number % 2 else caption(picture, rng)
        clip = next(videos(pipeline, [told.text], 1, image=Image.fromarray(image)))
        error = (clip[0].astype(np.float64) - image) / 255
        fidelity.append(float(-10 * np.log10(max((error**2).mean(), 1e-10))))
        verdict = compare(asked(told.named), look(clip))
        if verdict.motion is not None:
            objects = "one object" if len(picture.things) == 1 else "pair"
            motions[objects].append(verdict.motion)
            motions["every prompt"].append(verdict.motion)
    return {
        "videos": count,
        "first_frame_psnr_db": {"mean": round(float(np.mean(fidelity)), 2), "least": round(min(fidelity), 2)},
        "motion": {name: round(sum(right) / len(right), 4) for name, right in motions.items()},
    }


def captions(generator: WanPipeline, renders: int, stills: int, batch: int) -> dict[str, Any]:
    """Attributes right in captions of renders (against the scene) and of generated stills (against the judge)."""
    processor = AutoProcessor.from_pretrained(EMBEDDED / "wan-mini-caption", local_files_only=True)
    model = AutoModelForImageTextToText.from_pretrained(EMBEDDED / "wan-mini-caption", local_files_only=True)
    model = model.to(generator.device, torch.float32).eval()

    def said(images: list[Frames]) -> list[Asked]:
        answers = []
        for part in batches(images, 32):
            inputs = processor(images=[Image.fromarray(image) for image in part], return_tensors="pt")
            ids = model.generate(**inputs.to(generator.device), max_new_tokens=40, do_sample=False)
            answers += processor.batch_decode(ids, skip_special_tokens=True)
        return [read(answer) for answer in answers]

    scenes = sample(renders, SIZE, FRAMES, SEED + 2)
    pictured = to_uint8(render(scenes, frames=1))[:, :, 0].permute(0, 2, 3, 1).numpy()
    truths = [_as_seen(scenes, index) for index in range(renders)]
    of_renders = [compare(words, truth) for words, truth in zip(said(list(pictured)), truths, strict=True)]

    rng = Random(SEED + 3)
    told = [caption(p, rng, still=True) for p in pictures(sample(stills, SIZE, 1, SEED + 3))]
    made = [clip[0] for clip in videos(generator, [c.text for c in told], batch, num_frames=1)]
    looked = [look(image[None]) for image in made]
    # A still that the judge itself cannot name in full has no truth to hold the caption against.
    sure = [i for i, s in enumerate(looked) if s.background and s.things and all(t.shape for t in s.things)]
    words = said(made)
    of_stills = [compare(words[i], looked[i]) for i in sure]
    return {
        "renders": tally(of_renders),
        "generated stills": tally(of_stills) | {"made": stills},
        "generated stills against their prompts": tally(
            compare(asked(_without_motion(c.named)), s) for c, s in zip(told, looked, strict=True)
        ),
    }


def _as_seen(scenes: Scenes, index: int) -> SeenClip:
    """The truth about a render, in the form of something seen."""
    picture = pictures(scenes)[index]
    things = tuple(SeenThing(t.shape, t.colour or "", t.size or "", "still") for t in picture.things)
    return SeenClip(picture.background, things, clean=True)


def _without_motion(picture: Picture) -> Picture:
    return Picture(tuple(Thing(t.shape, t.colour, t.size, None) for t in picture.things), picture.background)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the full number of prompts, for a quick look")
    parser.add_argument("--batch", type=int, default=8, help="videos generated at once")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    begin = time.monotonic()
    generator = WanPipeline.from_pretrained(EMBEDDED / "wan-mini", local_files_only=True, dtype=torch.float32)
    generator.to(device).set_progress_bar_config(disable=True)
    counts = {"one object": 180, "held out": 90, "pair": 60}
    counts = {kind: max(2, int(options.share * count)) for kind, count in counts.items()}
    with ProcessPoolExecutor(max(1, min(14, (os.cpu_count() or 2) - 1))) as pool:
        result: dict[str, Any] = {
            "hardware": hardware(device),
            "versions": versions(),
            "settings": {
                "size": SIZE, "frames": FRAMES, "steps": STEPS, "guidance_scale": GUIDANCE,
                "max_sequence_length": TEXT_TOKENS, "scheduler": type(generator.scheduler).__name__,
            },
            "text to video": text_to_video(generator, counts, options.batch, pool),
        }  # fmt: skip
    animator = WanImageToVideoPipeline.from_pipe(generator)
    animator.set_progress_bar_config(disable=True)
    result["image to video"] = image_to_video(animator, max(4, int(options.share * 80)))
    result["captions"] = captions(
        generator, max(8, int(options.share * 300)), max(8, int(options.share * 150)), options.batch
    )
    result["seconds"] = round(time.monotonic() - begin, 1)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1), file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
