"""The judge sees what is in a rendered clip, and does not see what is not there."""

from collections import Counter
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch

from smallworld import names
from smallworld.captions import Picture, pictures
from smallworld.judge import Asked, AskedThing, compare, look
from smallworld.judge.sentences import read
from smallworld.render import render, to_uint8
from smallworld.world import sample

ATTRIBUTES = ("shape", "colour", "size", "motion", "background", "count")


def _asked(picture: Picture) -> Asked:
    return Asked(tuple(AskedThing(t.shape, t.colour, t.size, t.motion) for t in picture.things), picture.background)


def _rendered(count: int, size: tuple[int, int], seed: int) -> tuple[list[Picture], np.ndarray]:
    scenes = sample(count, size, names.DEFAULT_FRAMES, seed)
    return pictures(scenes), to_uint8(render(scenes)).permute(0, 2, 3, 4, 1).numpy()


@pytest.fixture(autouse=True)
def _few_threads() -> Iterator[None]:
    threads, threads_of_opencv = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads_of_opencv)


def test_every_attribute_of_rendered_clips_is_seen_in_at_least_99_of_100() -> None:
    right: Counter[str] = Counter()
    total = 0
    for size, seed in zip(names.FRAME_SIZES, (1, 2, 3), strict=True):
        for picture, frames in zip(*_rendered(22, size, seed), strict=True):
            verdict = compare(_asked(picture), look(frames))
            right.update({name: bool(getattr(verdict, name)) for name in ATTRIBUTES})
            total += 1
    assert {name: right[name] / total >= 0.99 for name in ATTRIBUTES} == dict.fromkeys(ATTRIBUTES, True), right


def test_an_attribute_that_the_prompt_leaves_open_is_not_judged() -> None:
    pictured, clips = _rendered(1, (128, 128), 5)
    verdict = compare(Asked((AskedThing(),) * len(pictured[0].things)), look(clips[0]))
    assert (verdict.shape, verdict.colour, verdict.motion, verdict.background) == (None, None, None, None)
    assert verdict.all_right


def test_a_wrong_name_is_wrong_for_every_attribute() -> None:
    scenes = [(p, c) for p, c in zip(*_rendered(12, (128, 128), 6), strict=True) if len(p.things) == 1]
    for picture, frames in scenes:
        thing = picture.things[0]
        wrong = AskedThing(
            next(s for s in names.SHAPES if s != thing.shape),
            next(c for c in names.COLOURS if c != thing.colour),
            next(s for s in names.SIZES if s != thing.size),
            next(m for m in names.MOTIONS if m != thing.motion),
        )
        ground = next(b for b in names.BACKGROUNDS if b != picture.background)
        verdict = compare(Asked((wrong,), ground), look(frames))
        judged = (verdict.shape, verdict.colour, verdict.size, verdict.motion, verdict.background)
        assert judged == (False,) * 5


def test_pebbles_and_torn_shapes_have_no_name() -> None:
    rng = np.random.default_rng(0)
    named = 0
    for _ in range(30):
        # A closed outline with four random waves: nothing that anybody would call by one of the six names.
        angles = np.linspace(0, 2 * np.pi, 120, endpoint=False)
        radius = 24 + sum(rng.uniform(3, 6) * np.cos(k * angles + rng.uniform(0, 6.3)) for k in (2, 3, 4, 6))
        outline = np.stack([64 + radius * np.cos(angles), 64 + radius * np.sin(angles)], 1).astype(np.int32)
        frame = np.full((128, 128, 3), (14, 22, 84), np.uint8)
        cv2.fillPoly(frame, [outline], (250, 225, 40))
        (thing,) = look(frame[None]).things
        named += thing.shape is not None
    assert named <= 3


@pytest.mark.parametrize("points", [3, 4, 6, 7, 8])
def test_a_star_has_five_points(points: int) -> None:
    angles = np.arange(2 * points) * np.pi / points - np.pi / 2
    reach = np.where(np.arange(2 * points) % 2, 0.45, 1.0) * 34
    frame = np.full((128, 128, 3), (0, 104, 104), np.uint8)
    outline = np.stack([64 + reach * np.cos(angles), 64 + reach * np.sin(angles)], 1)
    cv2.fillPoly(frame, [outline.round().astype(np.int32)], (255, 130, 190))
    (thing,) = look(frame[None]).things
    assert thing.shape != "star"


def test_a_stray_second_object_is_counted() -> None:
    frames = np.full((5, 128, 128, 3), (246, 246, 246), np.uint8)
    frames[:, 60:90, 60:90] = (225, 30, 35)
    one_square = Asked((AskedThing("square", "red", "medium", "still"),), "white")
    assert compare(one_square, look(frames)).all_right
    frames[:, 10:30, 10:30] = (225, 30, 35)
    assert not compare(one_square, look(frames)).count


def test_an_empty_clip_holds_nothing() -> None:
    seen = look(np.full((5, 96, 160, 3), (0, 104, 104), np.uint8))
    assert (seen.background, seen.things, seen.clean) == ("teal", (), True)


def test_a_caption_is_read_back_strictly() -> None:
    words = read("a small blue star and a large pink ring on a white background")
    assert words == Asked((AskedThing("star", "blue", "small"), AskedThing("ring", "pink", "large")), "white")
    assert read("something blue") == Asked((), None)
