"""What is wrong with a value, in the words of this package and not of the library that checks it."""

from typing import Any, get_args

import pytest
from pydantic_core.core_schema import ErrorType

from wan_mcp.errors import BadRequest
from wan_mcp.schema.parameters import Parameters
from wan_mcp.schema.refusals import PHRASES
from wan_mcp.schema.requests import CaptionRequest, VideoRequest


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"steps": "many"}, "steps: must be a whole number, not 'many'"),
        ({"steps": 2.5}, "steps: must be a whole number, not 2.5"),
        ({"steps": "9" * 5000}, "steps: must be a number of fewer digits, not 999"),
        ({"steps": 0}, "steps: must be greater than or equal to 1, not 0"),
        ({"steps": [4]}, "steps: must be a whole number, not [4]"),
        ({"duration_s": 0}, "duration_s: must be greater than 0, not 0"),
        ({"duration_s": "long"}, "duration_s: must be a number, not 'long'"),
        ({"guidance_scale": {}}, "guidance_scale: must be a number, not {}"),
        ({"seed": -1}, "seed: must be greater than or equal to 0 (omit seed for a random one), not -1"),
        (
            {"seed": 2**31},
            "seed: must be less than or equal to 2147483647 (omit seed for a random one), not 2147483648",
        ),
        ({"seed": "x"}, "seed: must be a whole number (omit seed for a random one), not 'x'"),
        ({"turbo": "perhaps"}, "turbo: must be true or false, not 'perhaps'"),
        ({"turbo": 2}, "turbo: must be true or false, not 2"),
        ({"prompt": 7}, "prompt: must be a text, not 7"),
        ({"model": ["wan-mini"]}, "model: must be a text, not ['wan-mini']"),
        ({"lora": "x"}, "lora: must be a list, not 'x'"),
        ({"lora": {"name": "x"}}, "lora: must be a list, not {'name': 'x'}"),
        ({"lora": ["x"]}, "lora.0: must be an object with name, path, scale or expert, not 'x'"),
        ({"lora": [7]}, "lora.0: must be an object with name, path, scale or expert, not 7"),
        ({"lora": [{"name": "x"}, [1]]}, "lora.1: must be an object with name, path, scale or expert, not [1]"),
        ({"lora": [{"name": 1}]}, "lora.0.name: must be a text, not 1"),
        ({"lora": [{"name": "x", "scale": "loud"}]}, "lora.0.scale: must be a number, not 'loud'"),
        ({"lora": [{"name": "x", "scale": []}]}, "lora.0.scale: must be a number, not []"),
    ],
)
def test_a_refusal_says_what_a_value_must_be(given: dict[str, Any], words: str) -> None:
    assert refusal(VideoRequest, {"prompt": "rain"} | given).startswith(words)


def test_parameters_that_are_missing_or_of_another_shape_are_named() -> None:
    assert refusal(VideoRequest, {}) == "prompt: is required"
    assert refusal(CaptionRequest, {"image": "x", "extra_options": "lighting"}).startswith("extra_options: must be a l")
    assert refusal(CaptionRequest, {"image": "x", "extra_options": [1]}) == "extra_options.0: must be a text, not 1"


def refusal(request: type[Parameters], given: dict[str, Any]) -> str:
    with pytest.raises(BadRequest) as refused:
        request.of(given)
    return str(refused.value)


def test_every_phrase_is_for_an_error_that_exists() -> None:
    assert set(get_args(ErrorType)) >= PHRASES.keys()
