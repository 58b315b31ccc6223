"""Access checks of the HTTP server, on every route, before anything else looks at a request.

A web page in a browser on this machine can reach a local server under another name (DNS
rebinding) or from its own origin; their headers reveal both. Such an attack needs a name,
so where the server listens beyond this machine, numeric addresses are let through, and names
only if they are known.
"""

import ipaddress
import logging
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.errors import UserError
from wan_mcp.fronts.http.credentials import Credentials
from wan_mcp.fronts.http.proxies import is_proxied
from wan_mcp.fronts.http.uploads import is_upload_link
from wan_mcp.fronts.identity import IDENTITY, STRANGER, Identity
from wan_mcp.fronts.web.access import PageAccess

__all__ = ["BearerToken", "TrustedHost", "TrustedOrigin", "is_loopback", "known_names", "refuse_open_door"]

log = logging.getLogger(__name__)

LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Check whether only this machine can reach a server that listens on `host`."""
    address = _address(host)
    return address.is_loopback if address else host.lower() in LOCAL_NAMES


def refuse_open_door(host: str, token: str, *, others: bool = False) -> None:
    """Refuse to listen beyond this machine without a token; `others` are named ones, or those of an OAuth issuer.

    Raises:
        UserError: `host` is reachable from elsewhere and there is no token.
    """
    if not token and not others and not is_loopback(host):
        raise UserError(
            f"listening on {host} would let anyone on the network use this machine; set WAN_MCP_HTTP_TOKEN "
            "to a secret that clients then send as 'Authorization: Bearer …', or make a token for each of them with "
            "'wan-mcp token add NAME', or listen on 127.0.0.1"
        )


def known_names(host: str, names: Iterable[str] = ()) -> frozenset[str]:
    """Return the names by which a server that listens on `host` may be addressed; `names` are further ones."""
    known = {*LOCAL_NAMES, *(name.strip().lower() for name in names if name.strip())}
    if not is_loopback(host):
        machine = socket.gethostname().lower()
        known |= {host.lower(), machine, machine.partition(".")[0] + ".local"}
    return frozenset(known)


class _Guard:
    """A middleware that answers a request itself, with the reason in the log, or passes it on."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or (refusal := self.refusal(scope)) is None:
            await self._app(scope, receive, send)
        else:
            log.warning("refused %s %r with %d", scope["method"], scope["path"], refusal.status_code)
            await refusal(scope, receive, send)

    def refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass."""
        raise NotImplementedError


class TrustedHost(_Guard):
    """Refuse with 421 a request that names another host.

    Starlette's middleware of this kind answers 400, and knows names and wildcards but no addresses.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], *, any_address: bool) -> None:
        """Let every numeric address through with `any_address`, and to clients of proxies; else loopback ones only."""
        super().__init__(app)
        self._names = names
        self._any_address = any_address

    def refusal(self, scope: Scope) -> Response | None:
        """Return 421 unless the host is known."""
        name = _name(f"//{Headers(scope=scope).get('host', '')}")
        address = _address(name)
        any_address = self._any_address or is_proxied(scope)
        known = name in self._names if address is None else any_address or address.is_loopback
        if known:
            return None
        return PlainTextResponse("Unknown host name for this server; add it to WAN_MCP_HTTP_HOSTS.", status_code=421)


class TrustedOrigin(_Guard):
    """Refuse with 403 a web page of another origin, unless it is one of this machine's or of a known name."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        super().__init__(app)
        self._names = names

    def refusal(self, scope: Scope) -> Response | None:
        """Return 403 unless there is no origin or it is trusted."""
        headers = Headers(scope=scope)
        origin = headers.get("origin")
        if origin is None or origin.partition("://")[2] == headers.get("host", ""):
            return None
        name = _name(origin)
        if name in self._names or is_loopback(name):
            return None
        return PlainTextResponse(
            "Pages of that origin may not use this server; add its host name to WAN_MCP_HTTP_HOSTS.", status_code=403
        )


class BearerToken:
    """Refuse with 401 a request without a token; a signed link needs none, nor a signed-in browser for the page.

    The SDK's middleware of this kind is for OAuth alone, and answers in its terms. What is found out about a request
    is in its scope afterwards: see `fronts/identity.py`.
    """

    def __init__(
        self, app: ASGIApp, credentials: Credentials | str, page: PageAccess | None = None, *, required: bool = True
    ) -> None:
        """Serve with `required` nobody without a token; otherwise only those who are elsewhere need one."""
        self._app = app
        self._credentials = Credentials(credentials) if isinstance(credentials, str) else credentials
        self._page, self._required = page, required

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            refusal = await self._refusal(scope)
            if refusal is not None:
                log.warning("refused %s %r with %d", scope["method"], scope["path"], refusal.status_code)
                return await refusal(scope, receive, send)
            send = self._until_revoked(scope, send)
        return await self._app(scope, receive, send)

    def _until_revoked(self, scope: Scope, send: Send) -> Send:
        """Return what sends an answer; a stream of events ends with the token that has opened it."""
        identity: Identity | None = scope.get(IDENTITY)
        if identity is None or not self._credentials.may_be_revoked(identity):
            return send
        state = "before"

        async def sending(message: Message) -> None:
            nonlocal state
            if message["type"] == "http.response.start":
                media_type = Headers(raw=message["headers"]).get("content-type", "")
                state = "streaming" if media_type.startswith("text/event-stream") else "whole"
            elif state == "streaming" and not self._credentials.is_valid(identity):
                log.info("a stream of %r ends: its token has ended", identity.owner)
                state, message = "ended", {"type": "http.response.body", "body": b"", "more_body": False}
            elif state == "ended":
                return
            await send(message)

        return sending

    async def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that may not pass; note whose it is if it may."""
        found = self._credentials.by_link(scope) or await self._credentials.by_token(scope)
        if isinstance(found, Identity):
            scope[IDENTITY] = found
            self._credentials.offer_links(scope)
            return None
        if is_upload_link(scope) or self._credentials.is_public(scope):
            scope[IDENTITY] = STRANGER
            return None
        page = self._page if self._page is not None and self._page.covers(scope) else None
        needs_token = self._required or is_proxied(scope) or found is not None
        if page is not None and (needs_token or page.required):
            if await page.admits(scope):
                self._credentials.offer_links(scope)
                return None
            return page.refusal(scope)
        return (found or self._credentials.missing(scope)) if needs_token else None


def _name(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return None
