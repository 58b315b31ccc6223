"""Build an SDK tool from a function: lean schemas, checked arguments, and errors in words.

The SDK derives all of this from a function as well, but has no hook for four things: it ignores unknown arguments, it
reads texts that look like JSON as JSON, it answers refused arguments in pydantic's lines, and it puts
`Error executing tool NAME: ` before the text of a `ToolError`. So a tool here gets its arguments as they were sent,
checks them itself and always returns a finished result.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, get_args, get_origin

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, Icon, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator

from wan_mcp.errors import HomeUnusable, UserError
from wan_mcp.fronts.mcp.schemas import LeanParameters, LeanResult
from wan_mcp.parsing import parse_json
from wan_mcp.schema.blanks import filled_in, require_numbers
from wan_mcp.schema.refusals import in_words
from wan_mcp.service.shortage import shortage
from wan_mcp.text import first_line, quoted

__all__ = ["Call", "build_tool"]

log = logging.getLogger(__name__)

Call = Context[Any, Any]
Arguments = dict[str, Any]

SEARCH_HINT = "anthropic/searchHint"
ADDED_BY_HOSTS = frozenset({"action", "chatInput", "sessionId", "toolCallId"})
"""Arguments that n8n's agent adds to every call (n8n issue 21500); the model that calls cannot leave them out."""


def build_tool(
    function: Callable[..., Awaitable[CallToolResult]],
    title: str,
    annotations: ToolAnnotations,
    search_hint: str | None = None,
    icon: Icon | None = None,
    meta: dict[str, Any] | None = None,
) -> Tool:
    """Build a tool that has the name, the parameters and the docstring of `function`.

    Args:
        function: Returns `Annotated[CallToolResult, Model]`; the model's schema is published. A `UserError` that it
            raises is for the caller to read. Any other exception is a defect: it is logged, and its text is not shown.
        title: The name that people see.
        annotations: Hints for clients.
        search_hint: Words by which hosts that load tools on demand (Claude Code) should find this one.
        icon: A drawing for hosts that show one.
        meta: What else programs should know about it.
    """
    description = " ".join((function.__doc__ or "").split())
    declared = Tool.from_function(
        function,
        title=title,
        description=description,
        annotations=annotations,
        meta={**(meta or {}), **({} if search_hint is None else {SEARCH_HINT: search_hint})} or None,
        structured_output=False,
    )
    name = declared.name
    checked = _checked(name, declared.fn_metadata.arg_model)
    [_, result] = get_args(inspect.signature(function).return_annotation)
    parameters = checked.model_json_schema(schema_generator=LeanParameters)

    async def answer(ctx: Call, arguments: Arguments) -> CallToolResult:
        added = sorted(ADDED_BY_HOSTS.intersection(arguments) - checked.model_fields.keys())
        result = await call(ctx, {key: value for key, value in arguments.items() if key not in added})
        return _noted(result, f"ignored what the host added to the call: {', '.join(added)}") if added else result

    async def call(ctx: Call, arguments: Arguments) -> CallToolResult:
        try:
            values = checked.model_validate(arguments).model_dump_one_level()
        except ValidationError as error:
            # Only the names: the values are the caller's.
            log.info("%s: arguments refused: %s", name, quoted([problem["loc"] for problem in error.errors()], 300))
            return _error(f"{name}: {in_words(error, checked.model_fields)}")
        if declared.context_kwarg is not None:
            values[declared.context_kwarg] = ctx
        try:
            return await function(**values)
        except UserError as error:
            log.info("%s: refused: %r", name, str(error))
            words = shortage(error) if isinstance(error, HomeUnusable) else None  # the home itself may be sound
            return _error(str(error) if words is None else f"{name}: {words}.")
        except MCPError:  # for the client, not for the model
            raise
        except Exception as error:
            if (words := shortage(error)) is not None:
                log.error("tool %s: %s: %s", name, words, first_line(error))
                return _error(f"{name}: {words}.")
            log.exception("tool %s failed", name)
            return _error(
                f"{name} failed with an unexpected error. This is a defect of the server, not of the request; "
                "the server's log (its stderr) has the details."
            )

    return declared.model_copy(
        update={
            "fn": answer,
            "is_async": True,
            "icons": None if icon is None else [icon],
            "context_kwarg": "ctx",
            "parameters": parameters,
            "fn_metadata": FuncMetadata(arg_model=_AsSent, output_schema=_result_schema(result)),
        }
    )


class _Checked(ArgModelBase):
    """Arguments of a tool: unknown ones are refused, and a blank means that one was left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _as_meant(cls, given: Arguments) -> Arguments:
        lists = {name for name, field in cls.model_fields.items() if get_origin(field.annotation) is tuple}
        sent = {name: _list_of(value) if name in lists else value for name, value in given.items()}
        require_numbers(sent, cls.model_fields)
        return filled_in(sent, cls.model_fields)


def _checked(name: str, declared: type[ArgModelBase]) -> type[ArgModelBase]:
    return create_model(name, __base__=(_Checked, declared))


def _list_of(value: Any) -> Any:
    """Return the list that a text of JSON holds; some models write lists as texts. Any other value as it is."""
    if not isinstance(value, str):
        return value
    try:
        read = parse_json(value)
    except ValueError:
        return value
    return read if isinstance(read, list) else value


class _AsSent(ArgModelBase):
    """Arguments that the SDK does not check."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> Arguments:
        """Return all arguments as one keyword of the function."""
        return {"arguments": self.model_extra or {}}


@functools.cache  # five tools answer with a job
def _result_schema(result: type[BaseModel]) -> dict[str, Any]:
    return result.model_json_schema(schema_generator=LeanResult)


def _noted(result: CallToolResult, note: str) -> CallToolResult:
    """Return a result with one note more, in its text and in its structure."""
    line = f"\nNote: {note}."
    first, *others = result.content
    if isinstance(first, TextContent):
        first = first.model_copy(update={"text": first.text + line})
    facts = result.structured_content
    if facts is not None:
        facts = facts | {"message": facts["message"] + line}
        facts |= {"notes": [*facts["notes"], note]} if "notes" in facts else {}
    return result.model_copy(update={"content": [first, *others], "structured_content": facts})


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
