"""Bodies of requests, as JSON or as multipart forms, read under bounds and checked against a form.

JSON is read strictly: a number is not a text. In a multipart body everything is text, and a file becomes a data URI, so
that both kinds of body are the same request to everything after this.
"""

import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import pydantic_core
from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import Request
from starlette.types import Message

from wan_mcp.fronts.openai.forms import UPLOADS
from wan_mcp.fronts.openai.refusals import ApiError, of_form
from wan_mcp.settings import Settings

__all__ = ["Bodies", "checked_query"]

JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"
SPARE_BYTES = 1_000_000  # of a body, for everything except pictures
SMALL_BYTES = 65_536  # of a body that is always let in
BODIES_IN_MEMORY = 2  # of the largest size, in all requests together; the official client comes back after a 503
MAX_PUNCTUATION = 100_000  # marks of a JSON body: each value costs some 90 bytes once it is parsed
MAX_PARTS = 100  # of a multipart body
KEY = re.compile(r"([A-Za-z_]\w{0,63})((?:\[\w{0,63}\]){0,3})")
"""A field of a multipart body; objects and lists are in brackets: input_reference[image_url], image[]."""
STRUCTURED = frozenset({"lora", "image_reference", "input_reference", "last_frame", "video", "images"})
"""Fields whose text in a multipart body may be JSON, as vLLM-Omni's clients send it."""

F = TypeVar("F", bound=BaseModel)


class Bodies:
    """What reads the bodies of all requests."""

    def __init__(self, settings: Settings, large_work: CapacityLimiter) -> None:
        """Bound bodies by two pictures in base64, the most that a request can need; read large ones one by one."""
        self._large_work = large_work
        self._most = int(settings.image_max_mb * 1e6 * 2 * 4 / 3) + SPARE_BYTES
        self._held_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request, form: type[F]) -> AsyncIterator[F]:
        """Provide the body of a request as `form`, until its pictures are in the media folder and it may be forgotten.

        Raises:
            ApiError: It is too long, cannot be read, or does not follow the form; the message says which.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media_type not in (JSON_TYPE, FORM_TYPE):
            raise ApiError(
                415, f"Content-Type must be {JSON_TYPE} or {FORM_TYPE}, not '{media_type[:100]}'.", code="invalid_type"
            )
        declared = request.headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > self._most:
            raise self._too_long()
        held = 0

        async def receive() -> Message:
            nonlocal held
            message = await request.receive()
            size = len(message.get("body", b""))
            held += size
            self._held_bytes += size
            if held > self._most:
                raise self._too_long()
            if held > SMALL_BYTES and self._held_bytes > BODIES_IN_MEMORY * self._most:
                raise ApiError(
                    503,
                    "The server holds too many large requests; try again in a moment.",
                    code="busy",
                    headers={"Retry-After": "5"},
                )
            return message

        bounded = Request(request.scope, receive)
        try:
            if media_type == JSON_TYPE:
                raw = await bounded.body()
                yield await run_sync(
                    lambda: _checked(form, _json(raw), strict=True),
                    limiter=self._large_work if held > SMALL_BYTES else None,
                )
            else:
                yield _checked(form, await _fields(bounded))
        finally:
            self._held_bytes -= held

    def _too_long(self) -> ApiError:
        return ApiError(413, f"The body is longer than {self._most} bytes; send smaller images.", code="too_large")


def _checked(form: type[F], given: Mapping[str, Any], *, strict: bool = False) -> F:
    """Return what was given as `form`; null stands for a field that was left out.

    Raises:
        ApiError: It does not follow the form.
    """
    try:
        present = {name: value for name, value in given.items() if value is not None}
        # As JSON, so that lists are as good as tuples.
        return form.model_validate_json(pydantic_core.to_json(present), strict=strict)
    except ValidationError as error:
        raise of_form(error, form) from error


def checked_query(request: Request, form: type[F]) -> F:
    """Return the query of a request as `form`.

    Raises:
        ApiError: It does not follow the form.
    """
    given: dict[str, str] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise ApiError(400, f"'{name}' was given more than once.", code="invalid_value", param=name)
        given[name] = value
    try:
        return form.model_validate_strings(given)
    except ValidationError as error:
        raise of_form(error, form) from error


def _json(raw: bytes) -> dict[str, Any]:
    if sum(raw.count(mark) for mark in (b"{", b"[", b",", b":")) > MAX_PUNCTUATION:
        raise ApiError(413, f"The body holds more than {MAX_PUNCTUATION} values.", code="too_large")
    try:
        body = pydantic_core.from_json(raw, allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"The body is not JSON: {error}.", code="invalid_json") from error
    if not isinstance(body, dict):
        raise ApiError(400, "The body must be a JSON object.", code="invalid_json")
    return body


async def _fields(request: Request) -> dict[str, Any]:
    """Return the fields of a multipart body; those that are empty were left out."""
    fields: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        try:
            parts = await stack.enter_async_context(
                request.form(max_files=MAX_PARTS, max_fields=MAX_PARTS, max_part_size=SPARE_BYTES * 64)
            )
        except (MultiPartException, HTTPException) as error:
            words = getattr(error, "message", None) or getattr(error, "detail", "")
            raise ApiError(400, f"The body is not a multipart form: {words}.", code="invalid_form") from error
        for key, value in parts.multi_items():
            match = KEY.fullmatch(key)
            if match is None:
                raise ApiError(400, f"Unknown parameter: {key[:60]!r}.", code="unknown_parameter", param=key[:60])
            path = [match[1], *re.findall(r"\[(\w*)\]", match[2])]
            if isinstance(value, UploadFile):
                if path[0] not in UPLOADS:
                    raise ApiError(400, f"'{path[0]}' is not a file.", code="invalid_type", param=path[0])
                text = "data:application/octet-stream;base64," + base64.b64encode(await value.read()).decode()
            else:
                text = value
            if text:
                _put(fields, path, _structure(text) if path[0] in STRUCTURED and len(path) == 1 else text)
    return fields


def _structure(text: str) -> Any:
    """Return the object or the list that a field holds as JSON, or its text."""
    if text.lstrip()[:1] not in ("{", "["):
        return text
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return text


def _put(fields: dict[str, Any], path: list[str], value: Any) -> None:
    """Put a value at its place: `image[]` in a list, `a[b]` in an object, `a[][b]` in the last object of a list."""
    name, *inside = path
    if len(inside) == 2 and not inside[0]:
        items = fields.setdefault(name, [])
        if isinstance(items, list) and (not items or not isinstance(items[-1], dict) or inside[1] in items[-1]):
            items.append({})
        if isinstance(items, list):
            items[-1][inside[1]] = value
            return
    twice = ApiError(400, f"'{name}' was given more than once.", code="invalid_value", param=name)
    if inside in ([], [""]):
        if name not in fields:
            fields[name] = [value] if inside else value
        elif name in UPLOADS and not isinstance(fields[name], dict):
            known = fields[name]
            fields[name] = [*(known if isinstance(known, list) else [known]), value]
        else:
            raise twice
        return
    if len(inside) > 1 or not isinstance(fields.setdefault(name, {}), dict) or inside[0] in fields[name]:
        raise twice
    fields[name][inside[0]] = value
