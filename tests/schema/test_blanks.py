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
    with pytest.raises(BadRequest, match="prompt: input should be a valid string"):
        ImageRequest.of({"prompt": None})
    with pytest.raises(ValidationError):
        CaptionRequest.model_validate({"image": None})
