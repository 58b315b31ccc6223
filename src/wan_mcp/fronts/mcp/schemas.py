"""Published schemas, kept as short as possible: a model pays for every word of them on every turn.

pydantic writes a title for each field, `anyOf` with null for each optional one and references for each model and
enumeration. These generators express the same in a third of the space.
"""

from typing import Any, ClassVar

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, NoDefault
from pydantic_core import CoreSchema, core_schema

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


class LeanParameters(_Lean):
    """A tool's parameters. Null is not mentioned: a parameter without a value is left out, and null is understood."""

    def generate(self, schema: CoreSchema, mode: JsonSchemaMode = "validation") -> Schema:
        """Return the schema of all parameters, and of no others."""
        return super().generate(schema, mode) | {"additionalProperties": False}

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of the value itself, without null."""
        return self.generate_inner(schema["schema"])

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """Return a default, unless it is null or an empty list."""
        default = super().get_default_value(schema)
        return NoDefault if default is None or default == () else default


class LeanResult(_Lean):
    """A tool's result, for programs: names and types, null among them, without descriptions."""

    dropped = frozenset({"title", "description", "propertyNames"})

    def nullable_schema(self, schema: core_schema.NullableSchema) -> Schema:
        """Return the schema of a value or null."""
        value = self.generate_inner(schema["schema"])
        return value | {"type": [value["type"], "null"]}

    def get_default_value(self, schema: core_schema.WithDefaultSchema) -> Any:
        """Return no default: a result contains every value."""
        return NoDefault
