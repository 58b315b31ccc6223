"""Refusals of the guards and of the server itself, in this API's words where its clients read them."""

import json

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.fronts.openai.refusals import ApiError, body_of

__all__ = ["ErrorWords"]

ROOT = "/v1/"
CODES = {401: "invalid_api_key", 403: "forbidden", 404: "unknown_url", 405: "method_not_allowed", 421: "unknown_host"}
KEY = "Incorrect API key provided. The API key is the token that this server was started with (WAN_MCP_HTTP_TOKEN)."


class ErrorWords:
    """A middleware that turns plain words of refusals below /v1 into its clients' JSON."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or not scope["path"].startswith(ROOT):
            await self._app(scope, receive, send)
            return
        start: Message | None = None
        words = b""

        async def translated(message: Message) -> None:
            nonlocal start, words
            if message["type"] == "http.response.start" and _is_plain_refusal(message):
                start = message
                return
            if start is None:
                await send(message)
                return
            words += message.get("body", b"")
            if not message.get("more_body", False):
                body = _body(start["status"], words.decode("utf-8", "replace").strip(), scope)
                headers = MutableHeaders(raw=start["headers"])
                headers["content-type"], headers["content-length"] = "application/json", str(len(body))
                await send(start)
                await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

        await self._app(scope, receive, translated)


def _is_plain_refusal(message: Message) -> bool:
    content_type = Headers(raw=message["headers"]).get("content-type", "")
    return message["status"] >= 400 and message["status"] != 416 and content_type.startswith("text/plain")


def _body(status: int, words: str, scope: Scope) -> bytes:
    if status == 404:
        words = f"Unknown request URL: {scope['method']} {scope['path'][:200]}. GET /v1/openapi.json lists all."
    elif status == 401 and words.startswith("A bearer token"):
        words = KEY
    return json.dumps(body_of(ApiError(status, words, code=CODES.get(status)))).encode()
