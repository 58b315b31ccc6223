"""How many requests of one owner are answered at once: one owner must not take all connections of the server.

A stream of events, a call that waits for its job, and a picture that arrives slowly all hold a connection. The home's
own user, whose server it is, may have them all. Uploads by links are counted where they are read.
"""

import logging
from collections import Counter

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from wan_mcp.fronts.http.connections import max_connections
from wan_mcp.fronts.identity import owner_of_request
from wan_mcp.service.owners import HOME_USER, NOBODY

__all__ = ["MOST_OF_ONE", "OpenRequests"]

log = logging.getLogger(__name__)

MOST_OF_ONE = 64
PART_OF_ONE = 4  # one in so many connections, where a process may have few


class OpenRequests:
    """A middleware that refuses with 429 the requests of an owner that has too many open."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open: Counter[str] = Counter()
        self._most = min(MOST_OF_ONE, max(1, max_connections() // PART_OF_ONE))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        owner = owner_of_request(scope) if scope["type"] == "http" else HOME_USER
        if owner in (HOME_USER, NOBODY):  # what anybody may read is answered at once, or is an upload by a link
            return await self._app(scope, receive, send)
        if self._open[owner] >= self._most:
            facts = (scope["method"], scope["path"], self._most, owner)
            log.warning("refused %s %r with 429: %d requests of %r are open", *facts)
            refusal = PlainTextResponse(
                f"{self._most} of your requests are open, which is the most that one owner may have; let streams and "
                "waiting calls end, or wait for jobs with a shorter wait_s.",
                429,
                {"Retry-After": "5"},
            )
            return await refusal(scope, receive, send)
        self._open[owner] += 1
        try:
            return await self._app(scope, receive, send)
        finally:
            self._open[owner] -= 1
            if not self._open[owner]:
                del self._open[owner]
