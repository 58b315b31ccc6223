"""The OpenAPI document, made from the operations and their forms."""

import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

import wan_mcp
from wan_mcp.fronts.openai.answers import Answer, ErrorAnswer
from wan_mcp.fronts.openai.api import Operation
from wan_mcp.fronts.openai.forms import UPLOADS

__all__ = ["openapi_document"]

PREFIX = "#/components/schemas/"
Json = dict[str, Any]
REFUSED = {
    "description": "Refused, in words.",
    "content": {"application/json": {"schema": {"$ref": f"{PREFIX}ErrorAnswer"}}},
}


def openapi_document(operations: Iterable[Operation], *, token: bool) -> Json:
    """Return the document; `token` says whether calls need one."""
    operations = list(operations)
    schemas = _schemas(operations)
    for operation in operations:
        if operation.body is not None:
            schemas[f"{operation.body.__name__}Form"] = _multipart(schemas[operation.body.__name__])
    paths: dict[str, Json] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    bearer = {"type": "http", "scheme": "bearer", "description": "The token of the server, WAN_MCP_HTTP_TOKEN."}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wan-mcp video API",
            "version": wan_mcp.__version__,
            "description": "OpenAI's videos, images and models, on the jobs of this server.",
        },
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"bearer": bearer}},
        "security": [{"bearer": []}] if token else [],
    }


def _schemas(operations: Iterable[Operation]) -> dict[str, Json]:
    sent: set[type[BaseModel]] = {operation.body for operation in operations if operation.body is not None}
    answered: set[type[BaseModel]] = {ErrorAnswer}
    for operation in operations:
        if isinstance(operation.answer, type) and operation.answer is not Answer:
            answered.add(operation.answer)
    wanted: list[tuple[type[BaseModel], Any]] = [(form, "validation") for form in sent]
    wanted += [(form, "serialization") for form in answered]
    wanted.sort(key=lambda each: each[0].__name__)
    _, definitions = models_json_schema(wanted, ref_template=f"{PREFIX}{{model}}")
    schemas: dict[str, Json] = definitions["$defs"]
    return schemas


def _multipart(schema: Json) -> Json:
    """Return the schema of the same form in a multipart body: texts and files."""
    form = deepcopy(schema)
    properties: dict[str, Json] = {}
    for name, given in form["properties"].items():
        if name in UPLOADS:
            properties[name] = {"type": "string", "format": "binary"}
        elif not _has_structure(given):
            properties[name] = _without_null(given)
    return {**form, "properties": properties}


def _has_structure(schema: Any) -> bool:
    return "$ref" in str(schema) or "'array'" in str(schema)


def _without_null(schema: Json) -> Json:
    """Return the schema of a value that is left out and not sent as null."""
    branches = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if not branches:
        return schema
    rest = {key: value for key, value in schema.items() if key not in ("anyOf", "default")}
    return {**branches[0], **rest} if len(branches) == 1 else {"anyOf": branches, **rest}


def _operation(operation: Operation) -> Json:
    described: Json = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*_path_parameters(operation.path), *_query_parameters(operation.query)],
        "responses": {**_answers(operation), "default": REFUSED},
    }
    if operation.body is not None:
        name = operation.body.__name__
        described["requestBody"] = {
            "required": True,
            "content": {
                "application/json": {"schema": {"$ref": f"{PREFIX}{name}"}},
                "multipart/form-data": {"schema": {"$ref": f"{PREFIX}{name}Form"}},
            },
        }
    return described


def _answers(operation: Operation) -> Mapping[str, Json]:
    if operation.answer is Answer:  # it only refuses
        return {"400": REFUSED}
    if isinstance(operation.answer, type):
        schema = {"$ref": f"{PREFIX}{operation.answer.__name__}"}
        return {"200": {"description": "Done.", "content": {"application/json": {"schema": schema}}}}
    content: Json = {media_type: {} for media_type in operation.answer}
    return {
        "200": {"description": "The file.", "content": content},
        "206": {"description": "The range that was asked for.", "content": content},
        "304": {"description": "The client has it already."},
        "416": {"description": "There is no such range.", "content": {"text/plain": {}, "application/json": {}}},
    }


def _path_parameters(path: str) -> list[Json]:
    names = re.findall(r"{(\w+)}", path)
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in names
    ]


def _query_parameters(form: type[BaseModel] | None) -> list[Json]:
    if form is None:
        return []
    return [
        {"name": name, "in": "query", "required": False, "schema": _without_null(schema)}
        for name, schema in form.model_json_schema()["properties"].items()
    ]
