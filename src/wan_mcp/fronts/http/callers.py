"""Who calls over HTTP: the user of this server, on this machine, or somebody elsewhere, and in whose name.

The answer stays with the request, as `scope[NEAR]`: a caller that is not near reads and sends no paths of this machine.
An owner other than the home's own user is never near, wherever the call comes from. All that serves the request acts in
the owner's name: see `service/owners.py`.
"""

import logging

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from wan_mcp.fronts.discretion import NEAR
from wan_mcp.fronts.http.guard import is_loopback
from wan_mcp.fronts.http.peer import Peer, peer_of
from wan_mcp.fronts.http.proxies import is_proxied
from wan_mcp.fronts.identity import IDENTITY, Identity, owner_of_request
from wan_mcp.service.owners import HOME_USER, acting_for

__all__ = ["Callers"]

log = logging.getLogger(__name__)

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
"""Headers that proxies add, also those that are not named in the settings: their clients may be anywhere."""


class Callers:
    """A middleware that marks each request as near or not, and may refuse those of other users of this machine."""

    def __init__(self, app: ASGIApp, host: str, *, own_user_only: bool) -> None:
        """Serve with `own_user_only` no other user of this machine, as far as the system tells who calls."""
        self._app = app
        self._loopback = is_loopback(host)
        self._own_user_only = own_user_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            peer = self._peer(scope)
            if peer in (Peer.OTHER, Peer.GONE):
                level = logging.WARNING if peer is Peer.OTHER else logging.DEBUG
                log.log(level, "refused %s %r with 401: its user is %s", scope["method"], scope["path"], peer.name)
                refusal = PlainTextResponse(
                    "This server answers the user who started it. To use it as another user of this machine, start it "
                    "with WAN_MCP_HTTP_TOKEN, and send that token as 'Authorization: Bearer …'.",
                    status_code=401,
                    headers={"WWW-Authenticate": 'Bearer realm="wan-mcp"'},
                )
                return await refusal(scope, receive, send)
            headers = Headers(scope=scope)
            forwarded = is_proxied(scope) or any(name in headers for name in FORWARDED)
            owner = owner_of_request(scope)
            scope[NEAR] = self._loopback and peer is Peer.SAME_USER and not forwarded and owner == HOME_USER
        with acting_for(owner_of_request(scope)):
            return await self._app(scope, receive, send)

    def _peer(self, scope: Scope) -> Peer:
        identity: Identity | None = scope.get(IDENTITY)
        if not self._own_user_only or identity is not None:
            return Peer.SAME_USER  # a token, a sign-in or a link has shown whose request it is
        client, server = scope.get("client"), scope.get("server")
        if client is None or server is None or server[1] is None:
            return Peer.UNKNOWN
        return peer_of((client[0], client[1]), (server[0], server[1]))
