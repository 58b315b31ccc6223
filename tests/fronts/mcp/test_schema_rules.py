"""The tools' parameters under the rules of the hosts that convert them.

OpenAI's strict functions: https://platform.openai.com/docs/guides/structured-outputs (supported schemas). Gemini:
https://ai.google.dev/api/caching#Schema. Anthropic: names of tools and properties, and an object at the root.
"""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.fixtures.mcp_server import Connect
from wan_mcp.settings import Settings

pytestmark = pytest.mark.anyio

Schema = dict[str, Any]
GEMINI = {"type", "format", "description", "nullable", "enum", "items", "properties", "required", "minimum", "maximum"}
GEMINI_TYPES = {"string", "number", "integer", "boolean", "array", "object"}
STRICT = {"type", "description", "items", "properties", "required", "minimum", "maximum", "additionalProperties"}
NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


def strict(schema: Schema) -> Schema:
    """Return a schema as OpenAI's libraries make it strict: every property required, nothing else allowed."""
    made = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in made:
        made["properties"] = {name: strict(each) for name, each in made["properties"].items()}
        made |= {"required": list(made["properties"]), "additionalProperties": False}
    if "items" in made:
        made["items"] = strict(made["items"])
    return made


def gemini(schema: Schema) -> Schema:
    """Return a schema as Google's SDK sends it: one type, and nullable in place of null."""
    made = {key: value for key, value in schema.items() if key != "default"}
    types = [made["type"]] if isinstance(made["type"], str) else list(made["type"])
    [made["type"]] = [each for each in types if each != "null"]
    if "null" in types:
        made["nullable"] = True
    if "properties" in made:
        made["properties"] = {name: gemini(each) for name, each in made["properties"].items()}
    if "items" in made:
        made["items"] = gemini(made["items"])
    return made


def parts(schema: Schema) -> Iterator[Schema]:
    yield schema
    for each in schema.get("properties", {}).values():
        yield from parts(each)
    if "items" in schema:
        yield from parts(schema["items"])


async def test_parameters_become_strict_functions_in_which_null_stands_for_what_is_left_out(
    settings: Settings, connect: Connect
) -> None:
    async with connect(settings) as runner:
        for tool in (await runner.client.list_tools()).tools:
            required = tool.input_schema.get("required", [])
            made = strict(tool.input_schema)
            Draft202012Validator.check_schema(made)
            for part in parts(made):
                assert part.keys() <= STRICT, tool.name
                if part["type"] == "object" or "object" in part["type"]:
                    assert part["properties"], f"{tool.name}: OpenAI and Gemini refuse an object without properties"
            empty = {name: "x" if name in required else None for name in made["properties"]}
            assert not list(Draft202012Validator(made).iter_errors(empty)), tool.name


async def test_parameters_become_gemini_schemas_of_one_type_each(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        for tool in (await runner.client.list_tools()).tools:
            for part in parts(gemini(tool.input_schema)):
                assert part["type"] in GEMINI_TYPES
                assert part.keys() <= GEMINI, tool.name


async def test_names_are_those_that_every_host_takes(settings: Settings, connect: Connect) -> None:
    async with connect(settings) as runner:
        for tool in (await runner.client.list_tools()).tools:
            assert tool.input_schema["type"] == "object"
            assert NAME.fullmatch(tool.name)
            assert all(NAME.fullmatch(name) for name in tool.input_schema["properties"])
