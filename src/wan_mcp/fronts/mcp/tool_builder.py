"""Build an SDK tool from a function: lean schemas, checked arguments, and errors in words.

The SDK derives all of this from a function as well, but has no hook for three things: it ignores unknown arguments, it
answers refused ones in pydantic's lines, and it puts `Error executing tool NAME: ` before the text of a `ToolError`.
So a tool here gets its arguments as they were sent, checks them itself and always returns a finished result.
"""

import functools
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any, get_args

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.tools import Tool
from mcp.server.mcpserver.utilities.func_metadata import ArgModelBase, FuncMetadata
from mcp.types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator

from wan_mcp.errors import UserError
from wan_mcp.fronts.mcp.schemas import LeanParameters, LeanResult
from wan_mcp.schema.parameters import in_words
from wan_mcp.text import quoted

__all__ = ["Call", "build_tool"]

log = logging.getLogger(__name__)

Call = Context[Any, Any]
Arguments = dict[str, Any]


def build_tool(function: Callable[..., Awaitable[CallToolResult]], title: str, annotations: ToolAnnotations) -> Tool:
    """Build a tool that has the name, the parameters and the docstring of `function`.

    Args:
        function: Returns `Annotated[CallToolResult, Model]`; the model's schema is published. A `UserError` that it
            raises is for the caller to read. Any other exception is a defect: it is logged, and its text is not shown.
        title: The name that people see.
        annotations: Hints for clients.
    """
    description = " ".join((function.__doc__ or "").split())
    declared = Tool.from_function(
        function, title=title, description=description, annotations=annotations, structured_output=False
    )
    name = declared.name
    checked = FuncMetadata(arg_model=create_model(name, __base__=(_Checked, declared.fn_metadata.arg_model)))
    [_, result] = get_args(inspect.signature(function).return_annotation)
    parameters = checked.arg_model.model_json_schema(schema_generator=LeanParameters)

    async def answer(ctx: Call, arguments: Arguments) -> CallToolResult:
        try:
            values = checked.validate_arguments(arguments)
        except ValidationError as error:
            # Only the names: the values are the caller's.
            log.info("%s: arguments refused: %s", name, quoted([problem["loc"] for problem in error.errors()], 300))
            return _error(f"{name}: {in_words(error, parameters['properties'])}")
        if declared.context_kwarg is not None:
            values[declared.context_kwarg] = ctx
        try:
            return await function(**values)
        except UserError as error:
            log.info("%s: refused: %r", name, str(error))
            return _error(str(error))
        except MCPError:  # for the client, not for the model
            raise
        except Exception:
            log.exception("tool %s failed", name)
            return _error(
                f"{name} failed with an unexpected error. This is a defect of the server, not of the request; "
                "the server's log (its stderr) has the details."
            )

    return declared.model_copy(
        update={
            "fn": answer,
            "is_async": True,
            "context_kwarg": "ctx",
            "parameters": parameters,
            "fn_metadata": FuncMetadata(arg_model=_AsSent, output_schema=_result_schema(result)),
        }
    )


class _Checked(ArgModelBase):
    """Arguments of a tool: unknown ones are refused, and null means that one was left out."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_nulls_out(cls, given: Arguments) -> Arguments:
        fields = cls.model_fields
        return {
            name: value
            for name, value in given.items()
            if value is not None or name not in fields or fields[name].is_required()
        }


class _AsSent(ArgModelBase):
    """Arguments that the SDK does not check."""

    model_config = ConfigDict(extra="allow")

    def model_dump_one_level(self) -> Arguments:
        """Return all arguments as one keyword of the function."""
        return {"arguments": self.model_extra or {}}


@functools.cache  # five tools answer with a job
def _result_schema(result: type[BaseModel]) -> dict[str, Any]:
    return result.model_json_schema(schema_generator=LeanResult)


def _error(text: str) -> CallToolResult:
    return CallToolResult(content=[TextContent(type="text", text=text)], is_error=True)
