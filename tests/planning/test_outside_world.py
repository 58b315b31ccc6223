"""The embedded models say which words they do not know, and which real model this machine can run instead."""

from pathlib import Path

import pytest

from smallworld import phrases
from wan_mcp.catalog.catalog import Catalog
from wan_mcp.catalog.world import unknown_words
from wan_mcp.hardware.machine import Machine
from wan_mcp.planning.planner import Planner
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, VideoRequest
from wan_mcp.settings import Settings

GB = 10**9
LARGE, MIDDLE, SMALL = (Machine("GPU", "bf16", size * GB, has_fp8=True) for size in (96, 24, 2))


@pytest.fixture
def planner(tmp_path: Path) -> Planner:
    return Planner(Settings(home=tmp_path), Catalog.of(tmp_path))


def unknown(prompt: str) -> list[str]:
    mini = Catalog.of(Path("nowhere")).get("wan-mini")
    assert mini.world is not None
    return list(unknown_words(mini.world, mini.weights.embedded or "", prompt))


def note(planner: Planner, prompt: str, machine: Machine = MIDDLE) -> str:
    return " ".join(planner.resolve(VideoRequest(prompt=prompt), machine=machine).notes)


@pytest.mark.parametrize(
    "prompt",
    [
        "A small red star drifts to the left over a navy background.",
        "two shapes: a Blue Ring and a medium-sized diamond, spinning!",
        "a cyan disc, cinematic, shallow depth of field, 4k",
        "it's growing – slowly",
        "a_red_star",
        "ＲＥＤ star",
        "a",
    ],
)
def test_nothing_is_said_of_a_prompt_whose_words_are_all_known(planner: Planner, prompt: str) -> None:
    assert unknown(prompt) == []
    assert note(planner, prompt) == ""


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a cat riding a horse in the snow", ["cat", "riding", "horse", "snow"]),
        ("City street at night", ["City", "street", "night"]),
        ("a red circle and a CAT, a cat", ["CAT"]),
        ("two stars", ["stars"]),
        ("5 red squares", ["5", "squares"]),
        ("a red hexagon", ["hexagon"]),
        ("chat", ["chat"]),
        ("ein roter Kreis", ["ein", "roter", "Kreis"]),
        ("кот", ["кот"]),
        ("猫", ["猫"]),
        ("赤い円。", ["赤い円"]),
        ("قطة", ["قطة"]),
        ("a red circle 🐱", ["🐱"]),
        ("a café", ["café"]),
        ("a cafe\N{COMBINING ACUTE ACCENT}", ["café"]),
    ],
)
def test_words_of_any_language_that_the_model_was_not_trained_on_are_named(
    planner: Planner, prompt: str, words: list[str]
) -> None:
    assert unknown(prompt) == words
    assert f"not understood: {', '.join(words)}. " in note(planner, prompt)


def test_every_word_of_the_small_world_is_known() -> None:
    """The vocabulary is the tokenizer's, and it was made of these."""
    named = (phrases.SHAPE_WORDS, phrases.COLOUR_WORDS, phrases.SIZE_WORDS, phrases.BACKGROUND_WORDS)
    words = [word for names in named for several in names.values() for word in several]
    assert unknown(" ".join([*words, *phrases.OTHER_WORDS, *phrases.FILLER_WORDS])) == []


def test_a_long_prompt_is_answered_in_a_short_note(planner: Planner) -> None:
    said = note(planner, " ".join(f"word{'x' * number}" for number in range(40)))
    assert "and 32 more" in said
    assert len(said) < 600
    assert "\x1b" not in note(planner, "a cat\x1b[31m")


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        (LARGE, "model='wan2.2-t2v-a14b', which fits this machine (resident)"),
        (MIDDLE, "model='wan2.2-ti2v-5b', which fits this machine (resident)"),
        (SMALL, "No other model for text-to-video fits this machine: the smallest, "),
    ],
)
def test_the_note_names_the_real_model_that_fits_or_why_none_does(
    planner: Planner, machine: Machine, words: str
) -> None:
    assert words in note(planner, "a cat", machine)


def test_a_model_that_fits_in_smaller_sizes_only_is_named_with_one_that_fits(planner: Planner) -> None:
    machine = Machine("GPU", "bf16", 8 * GB, has_fp8=True)
    said = note(planner, "a cat", machine)
    name, _, rest = said.partition("model='")[2].partition("'")
    size = rest.partition("resolution='")[2].partition("'")[0] or None
    planner.resolve(VideoRequest(prompt="a cat", model=name, resolution=size, num_frames=5), machine=machine)


def test_the_model_that_is_named_does_the_same_task(planner: Planner) -> None:
    image = InputImage(sha256="0" * 64, file="x.png", width=128, height=128, source="wan://images/x.png")
    still = " ".join(planner.resolve(ImageRequest(prompt="a cat"), machine=LARGE).notes)
    assert "model='qwen-image-2512'" in still
    moved = " ".join(planner.resolve(VideoRequest(prompt="a cat", image="x"), image, machine=LARGE).notes)
    assert "model='wan2.2-i2v-a14b'" in moved


def test_real_models_say_nothing_of_words(planner: Planner) -> None:
    request = VideoRequest(prompt="a cat", model="wan2.2-ti2v-5b")
    assert planner.resolve(request, machine=LARGE).notes == ()


def test_the_embedded_captioner_says_what_it_knows_of_pictures_that_are_not_results(planner: Planner) -> None:
    def notes(source: str) -> str:
        image = InputImage(sha256="0" * 64, file="x.png", width=128, height=128, source=source)
        return " ".join(planner.resolve(CaptionRequest(image=source), image, machine=MIDDLE).notes)

    said = notes("/photos/cat.jpg")
    assert "'wan-mini-caption' knows only pictures of flat coloured shapes" in said
    assert "model='joycaption-beta-one'" in said or "model='qwen3-vl-8b'" in said
    assert notes("data URI")
    assert notes("wan://images/x.png") == ""
