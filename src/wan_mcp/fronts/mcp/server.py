"""The MCP server: one for both protocol eras and all transports, over a job service that somebody else owns."""

import logging
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import (
    ResourceError,
    ResourceNotFoundError,
    ToolError,
    UnexpectedResourceError,
    UnexpectedToolError,
)
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import AnyUrl, ValidationError
from starlette.applications import Starlette

import wan_mcp
from wan_mcp.errors import UnknownJob, UserError
from wan_mcp.fronts.mcp.prompts import add_prompts
from wan_mcp.fronts.mcp.resources import add_resources
from wan_mcp.fronts.mcp.tools import build_tools
from wan_mcp.service.service import JobService

__all__ = ["build_http_app", "build_server"]

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Makes videos, images and captions on this machine. list_resolutions says which models, sizes and styles there "
    "are and how long a job takes. A call that is not done within wait_s gives a job_id: go on with get_job. "
    "Always tell the user the path of a finished file."
)
STATIC = CacheHint(ttl_ms=3_600_000, scope="public")
CACHE_HINTS: dict[CacheableMethod, CacheHint] = {
    "tools/list": STATIC,
    "prompts/list": STATIC,
    "resources/list": STATIC,
    "resources/templates/list": STATIC,
}


class _Server(MCPServer[Any]):
    """The SDK's server, with errors in our words: what is ours to say is said, the rest is logged."""

    def __init__(self, service: JobService) -> None:
        tools = build_tools(service)
        super().__init__(
            "wan_mcp",
            title="Wan studio",
            version=wan_mcp.__version__,
            instructions=INSTRUCTIONS,
            tools=tools,
            cache_hints=CACHE_HINTS,
        )
        self._parameters = {tool.name: tuple(tool.parameters["properties"]) for tool in tools}

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        self._refuse_unknown_arguments(name, arguments)
        try:
            return await super().call_tool(name, arguments, context)
        except UnexpectedToolError as error:
            if (refusal := _refusal(error)) is not None:
                raise ToolError(str(refusal)) from error
            log.exception("tool %s broke", name)
            raise ToolError(
                f"{name} met an unexpected error. That is a defect of the server, not of the request; "
                "the log of the server process (its stderr) says more."
            ) from None
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                raise ToolError(f"{name}: {'; '.join(_sentences(error.__cause__))}") from error.__cause__
            raise

    def _refuse_unknown_arguments(self, name: str, arguments: dict[str, Any]) -> None:
        known = self._parameters.get(name, arguments)
        for unknown in sorted(set(arguments) - set(known)):
            near = get_close_matches(unknown, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has: {', '.join(known)}"
            raise ToolError(f"{name} has no parameter '{unknown[:60]}'; {hint}")

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        try:
            return await super().read_resource(uri, context)
        except UnexpectedResourceError as error:
            refusal = _refusal(error)
            if isinstance(refusal, UnknownJob):
                raise ResourceNotFoundError(str(refusal)) from error
            if refusal is not None:
                raise ResourceError(str(refusal)) from error
            raise


def _refusal(error: BaseException) -> UserError | None:
    """The error of ours that is behind one of the SDK's."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, UserError):
        cause = cause.__cause__
    return cause


def _sentences(error: ValidationError) -> Iterable[str]:
    for problem in error.errors(include_url=False, include_context=False):
        what = ".".join(str(part) for part in problem["loc"])
        given = f", not {str(problem['input'])[:60]!r}" if problem["type"] != "missing" else ""
        yield f"{what}: {problem['msg'][0].lower()}{problem['msg'][1:]}{given}"


def build_server(service: JobService) -> MCPServer[Any]:
    """A server over `service`, which must be serving for as long as the server runs."""
    server = _Server(service)
    add_resources(server, service)
    add_prompts(server, service)
    return server


def build_http_app(service: JobService, max_body_bytes: int) -> Starlette:
    """The same server as an ASGI application with the endpoint /mcp; it trusts whoever reaches it."""
    return build_server(service).streamable_http_app(
        stateless_http=True,  # any process can answer any request
        json_response=False,  # progress needs a stream
        max_request_body_size=max_body_bytes,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
