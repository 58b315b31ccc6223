"""What a manifest's words become: every type in every length, options, and what is refused."""

from itertools import product

import pytest
from pydantic import ValidationError

from tests.fixtures.served_models import CAPTION_MODELS, SHIPPED
from wan_mcp.catalog.captions import CaptionSpec
from wan_mcp.errors import BadRequest

TAGS = {"any": "List tags.", "sized": "Write a {length} list.", "words": "List {length} tags."}


def spec(**changes: object) -> CaptionSpec:
    values = {"types": {"tags": TAGS}, "lengths": {"any": "", "short": "short"}, "words": (5, 50)}
    return CaptionSpec.model_validate(values | changes)


@pytest.mark.parametrize("name", CAPTION_MODELS)
def test_every_type_of_every_captioner_has_an_instruction_in_every_length(name: str) -> None:
    caption = SHIPPED.get(name).caption
    assert caption is not None
    lengths: list[str | None] = [None, *caption.lengths, *(["17"] if caption.words else [])]
    for kind, length in product(caption.types, lengths):
        said = caption.instruction(name, kind, length)
        assert said
        assert "{" not in said
        assert "  " not in said
        variants = caption.types[kind]
        if length == "17":
            assert "17" in said
        elif length is not None and caption.lengths[length] and variants.sized:
            assert caption.lengths[length] in said


def test_joycaption_has_its_twelve_types_and_six_lengths() -> None:
    caption = SHIPPED.get("joycaption-beta-one").caption
    assert caption is not None
    assert len(caption.types) == 12
    assert set(caption.lengths.values()) == {"", "very short", "short", "medium-length", "long", "very long"}
    assert (caption.temperature, caption.top_p, caption.max_new_tokens) == (0.6, 0.9, 512)
    assert len(caption.options) == 28


def test_options_of_joycaption_are_its_authors_to_the_letter() -> None:
    """The sentences whose words matter most: what a shorter one leaves out, the model does not do."""
    caption = SHIPPED.get("joycaption-beta-one").caption
    assert caption is not None
    asked = ["shot-type", "camera-details", "no-meta-phrases", "name=Ann", "vantage-height", "no-mood"]
    assert " ".join(caption.sentences("joycaption-beta-one", asked)) == (
        "Mention whether the image depicts an extreme close-up, close-up, medium close-up, medium shot, cowboy shot, "
        "medium wide shot, wide shot, or extreme wide shot. If it is a photo you MUST include information about what "
        "camera was likely used and details such as aperture, shutter speed, ISO, etc. Your response will be used by a "
        'text-to-image model, so avoid useless meta phrases like “This image shows…”, "You are looking at...", etc. '
        "If there is a person/character in the image you must refer to them as Ann. Explicitly specify the vantage "
        "height (eye-level, low-angle worm’s-eye, bird’s-eye, drone, rooftop, etc.). Do not mention the "
        "mood/feeling/etc of the image."
    )


def test_conditions_of_a_licence_are_told() -> None:
    licence = SHIPPED.get("joycaption-beta-one").licence
    assert "Built with Llama" in (licence.conditions or "")


@pytest.mark.parametrize("asked", ["Descriptive (Casual)", "descriptive casual", "DESCRIPTIVE-CASUAL"])
def test_types_are_found_whatever_their_case_and_signs(asked: str) -> None:
    caption = SHIPPED.get("joycaption-beta-one").caption
    assert caption is not None
    said = caption.instruction("joycaption-beta-one", asked, "Medium Length")
    assert said == "Write a medium-length descriptive caption for this image in a casual tone."


def test_a_plain_text_stands_for_all_lengths() -> None:
    plain = spec(types={"a": "Say it in {length} words, not more.", "b": "Say it."}, words=None)
    assert plain.instruction("m", "a", "short") == "Say it in short words, not more."
    assert plain.instruction("m", "b", "short") == "Say it."


@pytest.mark.parametrize(
    ("kind", "length", "said"),
    [
        ("poem", None, "no caption_type 'poem'; available: tags"),
        (None, "endless", "no length 'endless'; available: any, short, a number of words from 5 to 50"),
        (None, "51", "51 words is not allowed; it must be 5 to 50"),
        (None, "4", "must be 5 to 50"),
    ],
)
def test_types_and_lengths_that_there_are_not_are_refused(kind: str | None, length: str | None, said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        spec().instruction("m", kind, length)


def test_a_captioner_without_numbers_of_words_refuses_one() -> None:
    with pytest.raises(BadRequest, match="no length '20'; available: any, short"):
        spec(words=None).instruction("m", None, "20")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("colour", "no extra_option 'colour'; available: light, name"),
        ("name", "write 'name=…'"),
        ("name= ", "write 'name=…'"),
        ("light=yes", "write 'light' without '='"),
        ("name=" + "x" * 101, "101 characters long; the limit is 100"),
    ],
)
def test_options_that_cannot_be_are_refused(option: str, said: str) -> None:
    asked = spec(options={"light": "Mention the light.", "name": "Call them {value}."})
    with pytest.raises(BadRequest, match=said):
        asked.sentences("m", [option])


def test_the_value_of_an_option_cannot_bring_lines_of_its_own() -> None:
    asked = spec(options={"name": "Call them {value}."})
    assert asked.sentences("m", ["Name=Ada\n\nLovelace = {length}"]) == ["Call them Ada Lovelace = {length}."]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_beams": 3, "temperature": 0.5}, "does not sample"),
        ({"types": {"tags": "List tags."}}, "requires a variant 'words' of these types: tags"),
        ({"types": {"tags": TAGS | {"sized": "Short."}}}, "must contain {length}"),
        ({"types": {"tags": TAGS | {"long": "…"}}}, "Extra inputs"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(**changes)
