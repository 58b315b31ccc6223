"""Values as callers send them: blanks, which mean that a parameter was left out, and numbers, which are no truths.

Hosts with strict function calling send a value for every parameter of a tool, forms send an empty text for every field
that were not filled in: null and the empty text. Python counts true as 1; here it is not a number. Both rules are
written here once, for the parameters of tools, the options of commands, the values inside a parameter, and the
environment variables of settings.
"""

from collections.abc import Collection, Mapping
from typing import Any, get_args

from pydantic import GetCoreSchemaHandler, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError
from pydantic_core.core_schema import no_info_before_validator_function

from wan_mcp.schema.enums import Frozen

__all__ = ["Form", "SkipBlanks", "filled_in", "is_blank", "require_numbers"]


def is_blank(value: Any) -> bool:
    """Return True for null and the empty text; white space is a text like any other."""
    return value is None or (isinstance(value, str) and not value)


def filled_in(given: Mapping[str, Any], fields: Mapping[str, FieldInfo], kept: Collection[str] = ()) -> dict[str, Any]:
    """Return the given values without the blanks of optional fields.

    A blank under any other name is kept, so that it is refused with words: those of required fields, unknown names,
    and `kept`, whose empty text has a meaning.
    """
    return {
        name: value
        for name, value in given.items()
        if not is_blank(value)
        or name not in fields
        or fields[name].is_required()
        or (name in kept and value is not None)
    }


def require_numbers(given: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> None:
    """Check that no field of a number was given true or false, which Python counts as 1 and 0.

    A number in a text (`"4"`, `"4.0"`) is one: some models write all values as texts.

    Raises:
        ValidationError: A field was.
    """
    wrong = [name for name, value in given.items() if isinstance(value, bool) and _is_number(fields.get(name))]
    if wrong:
        what = PydanticCustomError("number", "must be a number")
        raise ValidationError.from_exception_data(
            "numbers", [InitErrorDetails(type=what, loc=(name,), input=given[name]) for name in wrong]
        )


def _is_number(field: FieldInfo | None) -> bool:
    types = set() if field is None else set(get_args(field.annotation) or [field.annotation])
    return bool(types & {int, float})


class Form(Frozen):
    """The base of values that a caller fills in."""

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, given: Any) -> Any:
        if not isinstance(given, Mapping):
            return given
        require_numbers(given, cls.model_fields)
        return filled_in(given, cls.model_fields)

    @classmethod
    def is_left_blank(cls, given: Any) -> bool:
        """Return True for what fills in every field with a blank or its default, as strict function calling does."""
        return (
            isinstance(given, Mapping)
            and set(given) == set(cls.model_fields)
            and all(is_blank(value) or value == cls.model_fields[name].default for name, value in given.items())
        )


class SkipBlanks:
    """Annotates a list whose blank items are left out, and those that are blank forms of `form`.

    An item that names some fields only, all of them blank, was not left out: it is refused with what it lacks.
    """

    def __init__(self, form: type[Form] | None = None) -> None:
        self._form = form

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Return the schema of the list after its blank items are left out."""
        return no_info_before_validator_function(self._without_blanks, handler(source))

    def _without_blanks(self, given: Any) -> Any:
        if not isinstance(given, list | tuple):
            return given
        return [item for item in given if not is_blank(item) and not (self._form and self._form.is_left_blank(item))]
