"""Published schemas, kept as short as possible: a model pays for every word of them on every turn.

pydantic writes a title for each field, `anyOf` with null for each optional one and references for each model and
enumeration. These generators express the same in a third of the space.
"""

from typing import Any, ClassVar

from pydantic.json_schema import GenerateJsonSchema, NoDefault
from pydantic_core import core_schema

__all__ = ["LeanParameters", "LeanResult"]

Schema = dict[str, Any]


class _Lean(GenerateJsonSchema):
    """No titles, and models and enumerations where they are used: not every client follows a reference."""

    dropped: ClassVar[frozenset[str]] = frozenset({"title"})

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Return False: a title would only repeat the field's name."""
        return False

    def generate_inner(self, schema: Any) -> Schema:
        """Return the schema of a type without the dropped keys."""
        inlined = self.resolve_ref_schema(super().generate_inner(schema))
        # A class's docstring is for readers of the code.
        dropped = self.dropped | ({"description"} if schema["type"] in ("model", "enum") else set())
        kept = {key: value for key, value in inlined.items() if key not in dropped}
        if isinstance(kept.get("additionalProperties"), bool):
            del kept["additionalProperties"]
        return kept

    def enum_schema(self, schema: core_schema.EnumSchema) -> Schema:
        """Return the type of an enumeration's values, without the values."""
        return {"type": super().enum_schema(schema)["type"]}


class LeanParameters(_Lean):
    """A tool's parameters, in the few keywords that the converters of all hosts read.

    - An optional one may be null: strict function calling sends a value for each.
    - No `additionalProperties` and no `exclusiveMinimum`: Google's SDK and API refuse them; no `maxLength`: OpenAI's
      strict mode does. A tool refuses unknown arguments and such values itself.
    - No `enum`: with null among its values it breaks Gemini, and without null strict callers must choose one. The
      descriptions name the values.
    """

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of a value or null."""
        return _or_null(self.generate_inner(schema["schema"]))

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """Return the schema of an optional value: null stands for the default of any type."""
        return _or_null(super().default_schema(schema))

    def str_schema(self, schema: core_schema.StringSchema) -> Schema:
        """Return the type of texts, without their longest length."""
        return {"type": super().str_schema(schema)["type"]}

    def float_schema(self, schema: core_schema.FloatSchema) -> Schema:
        """Return the schema of a number, without excluded bounds."""
        published = super().float_schema(schema)
        return {key: value for key, value in published.items() if key not in ("exclusiveMinimum", "exclusiveMaximum")}

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """Return a default, unless it is null or an empty list."""
        default = super().get_default_value(schema)
        return NoDefault if default is None or default == () else default


class LeanResult(_Lean):
    """A tool's result, for programs: names and types, null among them, without descriptions."""

    dropped = frozenset({"title", "description", "propertyNames"})

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of a value or null."""
        return _or_null(self.generate_inner(schema["schema"]))

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """Return no default: a result contains every value."""
        return NoDefault


def _or_null(schema: Schema) -> Schema:
    return schema if isinstance(schema["type"], list) else schema | {"type": [schema["type"], "null"]}
