"""The parameters of requests: the fields of a request are the parameters of its tool and the options of its command.

A new parameter is one field in a request, with its type, bounds, default and description, and a `CliOption` where the
command line spells it differently. Fronts write a function over the whole request, and `unfold` makes it a function
over the fields. Nothing here knows MCP or typer. The types below are shared by several requests.
"""

import functools
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self, TypeVar, get_type_hints

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from wan_mcp.errors import BadRequest
from wan_mcp.schema.blanks import Form
from wan_mcp.schema.refusals import in_words, phrase
from wan_mcp.text import number

__all__ = [
    "MAX_SEED",
    "AsFrame",
    "Check",
    "CliOption",
    "Count",
    "Frame",
    "Guidance",
    "Image",
    "Model",
    "NegativePrompt",
    "Parameters",
    "Pick",
    "Preset",
    "Prompt",
    "Resolution",
    "Seed",
    "Steps",
    "Style",
    "default_of",
    "not_asked",
    "unfold",
]

MAX_SEED = 2**31 - 1

T = TypeVar("T")


def _omit_for_random(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """Check a seed; other programs write -1 for a random one, so a refusal says how to ask for that here."""
    try:
        return check(value)
    except ValidationError as error:
        [problem] = error.errors()
        raise PydanticCustomError(
            "seed", "{why} (omit seed for a random one)", {"why": phrase(dict(problem))}
        ) from error


def _size_of_pair(value: Any) -> Any:
    """Return a width and a height in a list, as JSON has them, in the form WIDTHxHEIGHT."""
    if isinstance(value, list | tuple) and len(value) == 2 and all(type(each) in (int, float) for each in value):
        return "x".join(map(number, value))
    return value


def not_asked(value: Any) -> bool:
    """Leave a parameter out of a stored request, as requests were before there was such a parameter."""
    return value is None


FRAME_NUMBER = re.compile(r"[+-]?[0-9]{1,9}(\.0*)?")


def _frame(value: Any) -> Any:
    """Return which frame of a video is meant, in its one spelling; numbers come as numbers and as texts."""
    if value is None:
        return None
    text = str(value).strip().lower() if isinstance(value, str | int | float) and not isinstance(value, bool) else ""
    if text in ("first", "last"):
        return text
    if not FRAME_NUMBER.fullmatch(text):
        raise PydanticCustomError("frame", "must be first, last, or a whole number from 0; -1 is the last frame")
    return str(int(float(text)))


def _best(value: str | None) -> str | None:
    if value in (None, "best"):
        return value
    raise PydanticCustomError("pick", "must be 'best', or left out to keep all results")


@dataclass(frozen=True)
class CliOption:
    """The command-line spelling of a field, where its name or its description does not fit."""

    flag: str | None = None
    help: str | None = None


Prompt = Annotated[str, Field(description="What the result should show: subject, motion, setting, camera, light.")]
NegativePrompt = Annotated[
    str | None,
    Field(description="What to avoid. Default: the model's; a single space for none."),
    CliOption("--negative"),
]
Model = Annotated[
    str | None,
    Field(description="Model name from list_resolutions."),
    CliOption(help="Model name; see 'wan-mcp models'."),
]
Preset = Annotated[
    str | None,
    BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value),
    Field(description="draft, standard or best; other parameters override it."),
]
Image = Annotated[
    str | None,
    Field(description="Start image or video: path, wan:// address or data URI."),
]
AsFrame = BeforeValidator(_frame)
"""Annotates a text that names a frame of a video."""
Frame = Annotated[
    str | None,
    AsFrame,
    Field(
        exclude_if=not_asked,
        description="Of a video: first (default), last or its number.",
    ),
]
Resolution = Annotated[
    str | None,
    BeforeValidator(_size_of_pair),
    Field(description="Size name from list_resolutions, or WIDTHxHEIGHT. Default follows the start image."),
    CliOption(help="Size name from 'wan-mcp models --json', or WIDTHxHEIGHT. Default follows the start image."),
]
Steps = Annotated[int | None, Field(ge=1, description="Denoising steps; more is finer and slower.")]
Guidance = Annotated[
    float | None,
    Field(ge=0, description="How strictly to follow the prompt."),
    CliOption("--guidance"),
]
Seed = Annotated[
    int | None,
    Field(ge=0, le=MAX_SEED, description="The same seed gives the same result. Default: random."),
    WrapValidator(_omit_for_random),
]
Style = Annotated[
    str | None,
    Field(description="Style from list_resolutions, e.g. cinematic."),
    CliOption(help="Style from 'wan-mcp models --styles', e.g. cinematic."),
]
Check = Annotated[
    bool | None,
    Field(exclude_if=not_asked, description="Compare the result with the prompt."),
    CliOption(help="Have the captioner compare each result with the prompt, and say what is missing."),
]
Pick = Annotated[
    str | None,
    BeforeValidator(lambda value: value.strip().lower() if isinstance(value, str) else value),
    AfterValidator(_best),
    Field(exclude_if=not_asked, description="best: keep only the best of count."),
    CliOption(help="best: of several results, keep the one that fits the prompt best."),
]
Count = Annotated[int, Field(ge=1, description="Number of results; result i uses seed + i.")]


class Parameters(Form):
    """The base of requests."""

    @classmethod
    def parameters(cls) -> dict[str, FieldInfo]:
        """Return the fields that a caller may set, in order; `kind` only says which request it is."""
        return {name: field for name, field in cls.model_fields.items() if name != "kind"}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Build a request from parameters by their names; a blank means that one was not given (see `blanks`).

        Raises:
            BadRequest: A name is not a parameter, or a value is not allowed; the message says which and why.
        """
        try:
            return cls(**given)
        except ValidationError as error:
            refusal = BadRequest(in_words(error, cls.parameters()))
            [first, *_] = error.errors(include_url=False, include_input=False, include_context=False)
            refusal.param = str(first["loc"][0]) if first["loc"] else None
            raise refusal from error


def unfold(
    function: Callable[..., T], written: Callable[[str, FieldInfo], tuple[Any, Any]] | None = None
) -> Callable[..., T]:
    """Turn a function with a parameter `request` into one with a keyword for each field of that request.

    The MCP SDK and typer read signatures, so each makes its own surface from the result.

    Args:
        function: Takes `request`, annotated with a subclass of `Parameters`, by keyword.
        written: Returns the annotation and the default of a field's keyword. The default is to use the field's.
    """
    signature = inspect.signature(function, eval_str=True)
    request: type[Parameters] = signature.parameters["request"].annotation
    fields, hints = request.parameters(), get_type_hints(request, include_extras=True)

    @functools.wraps(function)
    def call(*args: Any, **given: Any) -> T:
        asked = {name: given.pop(name) for name in fields if name in given}
        return function(*args, request=request.of(asked), **given)

    def parameter(name: str, field: FieldInfo) -> inspect.Parameter:
        annotation, default = written(name, field) if written else (hints[name], default_of(field))
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    before, after = _around(signature, "request")
    parameters = [*before, *(parameter(name, field) for name, field in fields.items()), *after]
    call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {each.name: each.annotation for each in parameters} | {"return": signature.return_annotation}
    return call


def default_of(field: FieldInfo) -> Any:
    """Return the default of a field as `inspect.Parameter` expects it."""
    return inspect.Parameter.empty if field.is_required() else field.get_default(call_default_factory=True)


def _around(signature: inspect.Signature, name: str) -> tuple[list[inspect.Parameter], list[inspect.Parameter]]:
    """Return the parameters before and after one. Those after it become keywords, because they follow keywords."""
    parameters = list(signature.parameters.values())
    place = [parameter.name for parameter in parameters].index(name)
    return parameters[:place], [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters[place + 1 :]]
