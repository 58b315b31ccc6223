"""Prompts and captions are read thing by thing, and compared."""

import pytest

from wan_mcp.catalog.captions import CheckSpec
from wan_mcp.catalog.catalog import Catalog, shipped_folder
from wan_mcp.engine.review.words import compare, things_in


@pytest.fixture(scope="module")
def spec() -> CheckSpec:
    caption = Catalog(shipped_folder()).get("wan-mini-caption").caption
    assert caption is not None and caption.check is not None
    return caption.check


@pytest.mark.parametrize(
    ("prompt", "seen", "missing"),
    [
        ("a red circle moving left", "a large red circle left on a black background", ()),
        ("A BIG Red Ball, drifting to the left!", "a large red circle left on a black background", ()),
        ("a dark blue backdrop with a violet hoop", "a small purple ring on a navy background", ()),
        ("a circle that is red", "a large red circle on a black background", ()),
        ("a box on grey", "a small red square on a gray background", ()),
        ("a red circle moving left", "a large blue circle left on a black background", ("red (circle)",)),
        ("a red circle moving left", "a large red circle right on a black background", ("moving left (circle)",)),
        ("a small red star", "a large blue star", ("red small (star)",)),
        ("a red circle and a blue square", "a red square and a blue circle", ("red (circle)", "blue (square)")),
        ("a red circle and a red circle", "a red circle", ("red circle",)),
        ("a star spinning over white", "a star still on a black background", ("spinning (star)", "white")),
        ("from right to left a star", "a star left", ()),
        ("a triangle jumping up and down", "a triangle bouncing", ()),
        ("a triangle on the way up", "a triangle down", ("moving up (triangle)",)),
    ],
)
def test_what_a_prompt_names_is_looked_for(prompt: str, seen: str, missing: tuple[str, ...], spec: CheckSpec) -> None:
    found = compare(things_in(prompt, spec), things_in(seen, spec), moves=True)
    assert found.missing == missing
    assert found.score is not None
    assert (found.score == 1) == (not missing)


def test_an_image_need_not_move(spec: CheckSpec) -> None:
    asked = things_in("a red circle moving left", spec)
    assert compare(asked, things_in("a red circle", spec), moves=False).missing == ()


@pytest.mark.parametrize("prompt", ["a castle in the fog", "", "starfish", "credible, upright"])
def test_a_prompt_without_a_known_word_has_no_score(prompt: str, spec: CheckSpec) -> None:
    assert compare(things_in(prompt, spec), things_in("a red circle", spec), moves=True).score is None


def test_what_fits_more_has_the_higher_score(spec: CheckSpec) -> None:
    asked = things_in("a large red circle moving left on a black background", spec)
    seen = ("a large red circle left on a black background", "a large red circle right on a black background",
            "a small red circle right on a white background", "a small blue star")  # fmt: skip
    scores = [compare(asked, things_in(each, spec), moves=True).score or 0.0 for each in seen]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == len(scores)
