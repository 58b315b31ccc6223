"""Access checks of the HTTP server, on every route, before anything else looks at a request.

A web page in a browser on this machine can reach a local server under another name (DNS
rebinding) or from its own origin; their headers reveal both. Such an attack needs a name,
so where the server listens beyond this machine, numeric addresses are let through, and names
only if they are known.
"""

import hmac
import ipaddress
import logging
import socket
from collections.abc import Collection, Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wan_mcp.errors import UserError
from wan_mcp.fronts.http.uploads import is_upload_link
from wan_mcp.fronts.signed_links import SignedLinks
from wan_mcp.fronts.web.access import PageAccess

__all__ = ["BearerToken", "TrustedHost", "TrustedOrigin", "is_loopback", "known_names", "refuse_open_door"]

log = logging.getLogger(__name__)

LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Check whether only this machine can reach a server that listens on `host`."""
    address = _address(host)
    return address.is_loopback if address else host.lower() in LOCAL_NAMES


def refuse_open_door(host: str, token: str) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        UserError: `host` is reachable from elsewhere and there is no token.
    """
    if not token and not is_loopback(host):
        raise UserError(
            f"listening on {host} would let anyone on the network use this machine; set WAN_MCP_HTTP_TOKEN "
            "to a secret that clients then send as 'Authorization: Bearer …', or listen on 127.0.0.1"
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
        if scope["type"] != "http" or (refusal := self.refusal(Headers(scope=scope))) is None:
            await self._app(scope, receive, send)
        else:
            log.warning("refused %s %r with %d", scope["method"], scope["path"], refusal.status_code)
            await refusal(scope, receive, send)

    def refusal(self, headers: Headers) -> Response | None:
        """Return the answer to a request that may not pass."""
        raise NotImplementedError


class TrustedHost(_Guard):
    """Refuse with 421 a request that names another host.

    Starlette's middleware of this kind answers 400, and knows names and wildcards but no addresses.
    """

    def __init__(self, app: ASGIApp, names: Collection[str], *, any_address: bool) -> None:
        """Let every numeric address through with `any_address`, not only loopback addresses."""
        super().__init__(app)
        self._names = names
        self._any_address = any_address

    def refusal(self, headers: Headers) -> Response | None:
        """Return 421 unless the host is known."""
        name = _name(f"//{headers.get('host', '')}")
        address = _address(name)
        known = name in self._names if address is None else self._any_address or address.is_loopback
        if known:
            return None
        return PlainTextResponse("Unknown host name for this server; add it to WAN_MCP_HTTP_HOSTS.", status_code=421)


class TrustedOrigin(_Guard):
    """Refuse with 403 a web page of another origin, unless it is one of this machine's or of a known name."""

    def __init__(self, app: ASGIApp, names: Collection[str]) -> None:
        super().__init__(app)
        self._names = names

    def refusal(self, headers: Headers) -> Response | None:
        """Return 403 unless there is no origin or it is trusted."""
        origin = headers.get("origin")
        if origin is None or origin.partition("://")[2] == headers.get("host", ""):
            return None
        name = _name(origin)
        if name in self._names or is_loopback(name):
            return None
        return PlainTextResponse(
            "Pages of that origin may not use this server; add its host name to WAN_MCP_HTTP_HOSTS.", status_code=403
        )


class BearerToken(_Guard):
    """Refuse with 401 a request without the token; a signed link needs none, nor a signed-in browser for the page.

    The SDK's middleware of this kind is for OAuth: it wants an issuer and answers in its terms.
    """

    def __init__(self, app: ASGIApp, token: str, page: PageAccess | None = None) -> None:
        """Require the token; without one, only the page needs a sign-in."""
        super().__init__(app)
        self._token = token.encode()
        self._links = SignedLinks(token)
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if self._token and scope["type"] == "http":
            if self._links.admits(scope) or is_upload_link(scope):
                await self._app(scope, receive, send)
                return
            self._links.offer(scope)  # to those who pass
        if scope["type"] == "http" and self._page is not None and self._page.covers(scope):
            if (self._token and self.refusal(Headers(scope=scope)) is None) or await self._page.admits(scope):
                await self._app(scope, receive, send)
            else:
                await self._page.refusal(scope)(scope, receive, send)
        elif self._token:
            await super().__call__(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def refusal(self, headers: Headers) -> Response | None:
        """Return 401 unless the token is right."""
        if hmac.compare_digest(_bearer(headers), self._token):
            return None
        return PlainTextResponse(
            "A bearer token is required.", status_code=401, headers={"WWW-Authenticate": 'Bearer realm="wan-mcp"'}
        )


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    # Starlette reads headers as Latin-1, in which every byte is a letter; clients send UTF-8.
    return token.strip().encode("latin-1") if scheme.lower() == "bearer" else b""


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
