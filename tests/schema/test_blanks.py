"""Null and the empty text mean that a parameter was left out, whichever parameter it is."""

from typing import Any

import pytest
from pydantic import ValidationError

from wan_mcp.errors import BadRequest
from wan_mcp.schema.parameters import Parameters
from wan_mcp.schema.requests import CaptionRequest, ImageRequest, LoraRequest, VideoRequest

LEAST: list[tuple[type[Parameters], dict[str, Any]]] = [
    (VideoRequest, {"prompt": "rain"}),
    (ImageRequest, {"prompt": "rain"}),
    (CaptionRequest, {"image": "rain.png"}),
]


@pytest.mark.parametrize(("request_type", "least"), LEAST, ids=lambda each: getattr(each, "__name__", ""))
@pytest.mark.parametrize("blank", [None, ""], ids=["null", "empty"])
def test_a_request_of_blanks_is_the_request_without_them(
    request_type: type[Parameters], least: dict[str, Any], blank: str | None
) -> None:
    blanks = dict.fromkeys(request_type.parameters(), blank) | least
    assert request_type.of(blanks) == request_type(**least)
    assert request_type.model_validate(blanks) == request_type(**least)


@pytest.mark.parametrize("blank", [None, ""], ids=["null", "empty"])
def test_blanks_inside_a_parameter_are_left_out_too(blank: str | None) -> None:
    every = dict.fromkeys(LoraRequest.model_fields, blank)
    asked = VideoRequest.of({"prompt": "rain", "lora": [every | {"name": "style"}, every, blank]})
    assert asked.lora == (LoraRequest(name="style", scale=1.0),)
    described = CaptionRequest.of({"image": "rain.png", "extra_options": ["lighting", blank]})
    assert described.extra_options == ("lighting",)


def test_an_empty_object_was_not_left_blank() -> None:
    assert VideoRequest.of({"prompt": "rain", "lora": [{}]}).lora == (LoraRequest(),)


@pytest.mark.parametrize("text", [" ", "null", "0", "\n"])
def test_any_other_text_is_a_value(text: str) -> None:
    assert VideoRequest.of({"prompt": text, "negative_prompt": text}).negative_prompt == text


@pytest.mark.parametrize("blank", [None, ""], ids=["null", "empty"])
def test_a_blank_under_an_unknown_name_is_refused(blank: str | None) -> None:
    with pytest.raises(BadRequest, match="no parameter 'colour'"):
        VideoRequest.of({"prompt": "rain", "colour": blank})


def test_a_required_parameter_cannot_be_left_out() -> None:
    with pytest.raises(BadRequest, match="prompt: must be a text, not None"):
        ImageRequest.of({"prompt": None})
    with pytest.raises(ValidationError):
        CaptionRequest.model_validate({"image": None})


def test_a_lora_without_a_name_is_a_lora_and_not_a_blank() -> None:
    for given in ({"name": ""}, {"name": "", "scale": 0.5}, {"path": None}):
        assert VideoRequest.of({"prompt": "rain", "lora": [given]}).lora == (LoraRequest.model_validate(given),)


def test_a_lora_filled_in_with_its_defaults_was_left_blank() -> None:
    filled = {"name": "", "path": None, "scale": 1.0, "expert": ""}
    assert VideoRequest.of({"prompt": "rain", "lora": [filled]}).lora == ()
    assert len(VideoRequest.of({"prompt": "rain", "lora": [filled | {"scale": 0.5}]}).lora) == 1


NUMBERS = [
    *((VideoRequest, name) for name in ("steps", "count", "seed", "num_frames", "duration_s", "guidance_scale")),
    *((VideoRequest, "guidance_scale_2"), (ImageRequest, "strength"), (CaptionRequest, "seed")),
]


@pytest.mark.parametrize(("request_type", "name"), NUMBERS)
@pytest.mark.parametrize("truth", [True, False])
def test_true_and_false_are_no_numbers(request_type: type[Parameters], name: str, truth: bool) -> None:
    least = dict(LEAST)[request_type]
    with pytest.raises(BadRequest, match=f"{name}: must be a number.*, not {str(truth).lower()}"):
        request_type.of(least | {name: truth})


def test_true_is_no_number_inside_a_parameter() -> None:
    with pytest.raises(BadRequest, match=r"lora\.0\.scale: must be a number, not true"):
        VideoRequest.of({"prompt": "rain", "lora": [{"name": "style", "scale": True}]})
    with pytest.raises(BadRequest, match="resolution: must be a text"):
        VideoRequest.of({"prompt": "rain", "resolution": [True, 480]})


@pytest.mark.parametrize(("text", "steps"), [("4", 4), (" 4 ", 4), ("4.0", 4), (4.0, 4)])
def test_a_number_in_a_text_is_a_number(text: str | float, steps: int) -> None:
    assert VideoRequest.of({"prompt": "rain", "steps": text}).steps == steps
