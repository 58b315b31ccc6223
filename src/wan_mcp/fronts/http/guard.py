"""Who may talk to the HTTP server: checked on every route, before anything else looks at a request.

A web page in a browser on this machine can reach a local server under a name of its own (DNS
rebinding) or from its own origin; both are told by their headers. Such an attack needs a name,
so where the server listens beyond this machine addresses in figures are let through, and names
only if they are known.
"""

import hmac
import ipaddress
import logging
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from wan_mcp.errors import UserError

__all__ = ["Guard", "is_loopback", "refuse_open_door"]

log = logging.getLogger(__name__)

LOCAL_NAMES = ("localhost", "ip6-localhost", "ip6-loopback")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    address = _address(host)
    return address.is_loopback if address else host.lower() in LOCAL_NAMES


def refuse_open_door(host: str, token: str) -> None:
    """See that nobody beyond this machine gets in without a token.

    Raises:
        UserError: `host` is reachable from elsewhere and there is no token.
    """
    if not token and not is_loopback(host):
        raise UserError(
            f"listening on {host} would let anybody on the network use this machine; set WAN_MCP_HTTP_TOKEN "
            "to a secret that clients then send as 'Authorization: Bearer …', or listen on 127.0.0.1"
        )


class Guard:
    """Lets a request through to `app`, or answers it: 421 for a strange host, 403 for a strange origin, 401."""

    def __init__(self, app: ASGIApp, host: str, token: str, names: Iterable[str] = ()) -> None:
        """`host` is where the server listens; `names` are further names that it is known under."""
        self._app = app
        self._token = token.encode()
        self._beyond = not is_loopback(host)
        self._names = {*LOCAL_NAMES, *(name.lower() for name in names)}
        if self._beyond:
            machine = socket.gethostname().lower()
            self._names |= {host.lower(), machine, machine.partition(".")[0] + ".local"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http" or (refusal := self._refusal(Headers(scope=scope))) is None:
            await self._app(scope, receive, send)
        else:
            log.warning("refused %s %r with %d", scope["method"], scope["path"], refusal.status_code)
            await refusal(scope, receive, send)

    def _refusal(self, headers: Headers) -> Response | None:
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._knows(_name(f"//{host}")):
            return PlainTextResponse(
                "This server is not known under that name; WAN_MCP_HTTP_HOSTS adds names.", status_code=421
            )
        if origin is not None and origin.partition("://")[2] != host and not self._trusts(origin):
            return PlainTextResponse(
                "Pages of that origin may not use this server; WAN_MCP_HTTP_HOSTS adds names.", status_code=403
            )
        if self._token and not hmac.compare_digest(_bearer(headers), self._token):
            return PlainTextResponse(
                "A bearer token is needed.", status_code=401, headers={"WWW-Authenticate": 'Bearer realm="wan-mcp"'}
            )
        return None

    def _knows(self, name: str) -> bool:
        address = _address(name)
        if address is not None:
            return self._beyond or address.is_loopback
        return name in self._names

    def _trusts(self, origin: str) -> bool:
        """Whether pages of another origin may call: those of this machine, and of known names."""
        name = _name(origin)
        return name in self._names or is_loopback(name)


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode() if scheme.lower() == "bearer" else b""


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
