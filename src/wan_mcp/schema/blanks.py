"""Blanks: null and the empty text mean that a parameter was left out.

Hosts with strict function calling send a value for every parameter of a tool, forms send an empty text for every field
that nobody has filled in. The rule is written here once, for the parameters of tools, the options of commands, the
values inside a parameter, and the environment variables of settings.
"""

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BeforeValidator, model_validator
from pydantic.fields import FieldInfo

from wan_mcp.schema.enums import Frozen

__all__ = ["Form", "SkipBlanks", "filled_in", "is_blank"]


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


class Form(Frozen):
    """The base of values that a caller fills in."""

    @model_validator(mode="before")
    @classmethod
    def _leave_blanks_out(cls, given: Any) -> Any:
        return filled_in(given, cls.model_fields) if isinstance(given, Mapping) else given


def _without_blanks(given: Any) -> Any:
    """Return a list without its blank items, and without objects of which every value is blank."""
    if not isinstance(given, list | tuple):
        return given
    return [item for item in given if not is_blank(item) and not _is_blank_form(item)]


def _is_blank_form(item: Any) -> bool:
    return isinstance(item, Mapping) and bool(item) and all(map(is_blank, item.values()))


SkipBlanks = BeforeValidator(_without_blanks)
"""Annotates a list whose blank items are left out."""
