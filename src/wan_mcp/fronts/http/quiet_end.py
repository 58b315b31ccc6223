"""The end of answers that are under way when the server stops."""

import asyncio
import logging

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["QuietEnd"]

log = logging.getLogger(__name__)


class QuietEnd:
    """A middleware that completes the answers that end because the server stops.

    uvicorn cancels them after a while, and logs a traceback for each. Streams of events break off without an end.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        begun = completed = stream = False

        async def watched(message: Message) -> None:
            nonlocal begun, completed, stream
            if message["type"] == "http.response.start":
                begun = True
                stream = Headers(raw=message["headers"]).get("content-type", "").startswith("text/event-stream")
            else:
                completed = not message.get("more_body", False)
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except asyncio.CancelledError:
            log.info("stopping while a client waits for %s", scope.get("path"))
            if not begun and scope["type"] == "http":
                await PlainTextResponse("The server is stopping; jobs continue.\n", 503)(scope, receive, send)
        if stream and not completed:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
