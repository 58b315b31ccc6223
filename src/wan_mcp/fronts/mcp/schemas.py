"""Published schemas as short as they can be: a model pays for every word of them on every turn.

pydantic writes a title for each field, `anyOf` with null for each optional one and references for
each enumeration. What is written here says the same in a third of the space.
"""

from typing import Any

__all__ = ["lean_parameters", "lean_result"]

Schema = dict[str, Any]
NULL: Schema = {"type": "null"}


def lean_parameters(schema: Schema) -> Schema:
    """A tool's parameters. Null is left out: who has no value leaves the parameter away; a null is understood."""
    lean = _Lean(schema, dropped=("title", "$defs"), keep_null=False).schema(schema)
    return lean | {"additionalProperties": False}


def lean_result(schema: Schema) -> Schema:
    """A tool's result, for programs: names and types, null among them, without descriptions."""
    dropped = ("title", "$defs", "description", "propertyNames", "default")
    return _Lean(schema, dropped, keep_null=True).schema(schema)


class _Lean:
    def __init__(self, root: Schema, dropped: tuple[str, ...], *, keep_null: bool) -> None:
        self._definitions: dict[str, Schema] = root.get("$defs", {})
        self._dropped = dropped
        self._keep_null = keep_null

    def schema(self, schema: Schema) -> Schema:
        schema = {key: value for key, value in schema.items() if key not in self._dropped}
        if "$ref" in schema:
            target = self._definitions[schema.pop("$ref").removeprefix("#/$defs/")]
            # A class's docstring is for readers of the code.
            return self.schema({key: value for key, value in target.items() if key != "description"} | schema)
        if schema.get("default", 0) is None:
            del schema["default"]
        if isinstance(schema.get("additionalProperties"), bool):
            del schema["additionalProperties"]
        if NULL in schema.get("anyOf", ()):
            return self._optional(schema)
        if "properties" in schema:
            schema["properties"] = {name: self.schema(value) for name, value in schema["properties"].items()}
        for key in ("items", "additionalProperties"):
            if key in schema:
                schema[key] = self.schema(schema[key])
        return schema

    def _optional(self, schema: Schema) -> Schema:
        [value] = [self.schema(option) for option in schema.pop("anyOf") if option != NULL]
        if self._keep_null:
            value["type"] = [value["type"], "null"]
        return {**value, **schema}
