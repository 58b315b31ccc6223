"""What wraps requests of the SDK's server: whose they are, how their client reads, and refusals in words."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from mcp import MCPError
from mcp.server.apps import APP_MIME_TYPE
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import INVALID_PARAMS, Prompt
from starlette.requests import Request as HttpRequest

from wan_mcp.fronts.discretion import discreet
from wan_mcp.fronts.identity import owner_of_request
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.prompts import wrong_prompt
from wan_mcp.fronts.mcp.resources import reading
from wan_mcp.media.store import MediaStore
from wan_mcp.service.owners import acting_for

__all__ = ["InTheNameOfAnOwner", "PromptsInWords", "ReadsOfAClient"]

Context = ServerRequestContext[Any, Any]


class InTheNameOfAnOwner:
    """Serves each request in the name of the owner who makes it, in whichever task the SDK serves it."""

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve a request."""
        request = ctx.request
        if not isinstance(request, HttpRequest):  # on stdio
            return await call_next(ctx)
        with acting_for(owner_of_request(request.scope)):
            return await call_next(ctx)


class ReadsOfAClient:
    """Reads resources for the client that asks, without places on this machine for one elsewhere."""

    def __init__(self, media: MediaStore) -> None:
        self._media = media

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve a request."""
        if ctx.method != "resources/read":
            return await call_next(ctx)
        places = Places.of_request(self._media, ctx.request)
        try:
            with reading(places):
                found = await call_next(ctx)
        except MCPError as error:
            if places.same_machine:
                raise
            raise MCPError(error.code, discreet(error.message, self._media.home), error.data) from error
        if places.same_machine or not isinstance(found, Mapping):
            return found
        return {**found, "contents": [self._discreet(each) for each in found.get("contents", [])]}

    def _discreet(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        if "text" not in content or content.get("mimeType") == APP_MIME_TYPE:
            return content  # a program names no place, and half of one would not run
        return {**content, "text": discreet(content["text"], self._media.home)}


class PromptsInWords:
    """Refuses requests for prompts that are wrong, in a sentence that says what is allowed."""

    def __init__(self, prompts: Callable[[], Awaitable[Sequence[Prompt]]]) -> None:
        self._prompts = prompts

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Serve a request.

        Raises:
            MCPError: There is no such prompt, or an argument is missing or unknown; the message says which.
        """
        if ctx.method == "prompts/get":
            params = ctx.params or {}
            name, given = params.get("name"), params.get("arguments") or {}
            if isinstance(name, str) and isinstance(given, Mapping):  # otherwise the SDK refuses it
                why = wrong_prompt(await self._prompts(), name, given)
                if why is not None:
                    raise MCPError(INVALID_PARAMS, why)
        return await call_next(ctx)
