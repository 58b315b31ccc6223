"""Requests that a named proxy passes on: the client's address, scheme and host, as the proxy says.

Anybody can send such headers, so only those of proxies that are named in the settings count. What comes from a
named proxy comes from elsewhere, with these headers or without.
"""

import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Receive, Scope, Send

__all__ = ["NamedProxies", "is_proxied"]

PROXIED = "wan_mcp.proxied"
PAIR = re.compile(r'\s*([A-Za-z0-9!#$%&\'*+.^_`|~-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s;,"]*))\s*')  # RFC 7239, section 4
HOST = re.compile(r"[A-Za-z0-9._-]{1,253}(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:[0-9]{1,5})?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class _Hop:
    """What one proxy says of the request that it has received."""

    client: str = ""
    scheme: str = ""
    host: str = ""


def is_proxied(scope: Scope) -> bool:
    """Check whether a request came from a named proxy."""
    return scope.get(PROXIED) is True


class NamedProxies:
    """A middleware that puts the client of a named proxy in the place of the proxy."""

    def __init__(self, app: ASGIApp, networks: Sequence[Network]) -> None:
        self._app, self._networks = app, networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http" and scope.get("client") and self._is_named(scope["client"][0]):
            scope = self._of_client(scope)
        await self._app(scope, receive, send)

    def _of_client(self, scope: Scope) -> Scope:
        hops = _hops(Headers(scope=scope))
        # From the nearest: what a proxy says is true as far as those between are named, too.
        hop = _Hop()
        for hop in reversed(hops):
            if not self._is_named(hop.client):
                break
        headers = MutableHeaders(raw=list(scope["headers"]))
        if HOST.fullmatch(hop.host):
            headers["host"] = hop.host
        address = _address(hop.client)
        return {
            **scope,
            PROXIED: True,
            "headers": headers.raw,
            "client": (str(address), 0) if address else None,
            "scheme": hop.scheme if hop.scheme in ("http", "https") else scope["scheme"],
        }

    def _is_named(self, host: str) -> bool:
        address = _address(host)
        return address is not None and any(address in network for network in self._networks)


def _hops(headers: Headers) -> list[_Hop]:
    """Return what the proxies say, the one next to the client first.

    A proxy that writes the older headers passes on a `Forwarded` that its client has made up, so they come first.
    """
    clients = _list(headers, "x-forwarded-for")
    schemes, hosts = _list(headers, "x-forwarded-proto"), _list(headers, "x-forwarded-host")
    if not (clients or schemes or hosts):
        return _forwarded(", ".join(headers.getlist("forwarded")))

    def at(values: list[str], index: int) -> str:
        """Return the value of a hop; a header of another length is that of the nearest proxy alone."""
        return values[index] if len(values) == len(clients) else values[-1] if values else ""

    clients = clients or [headers.get("x-real-ip", "")]
    return [_Hop(each, at(schemes, i).lower(), at(hosts, i)) for i, each in enumerate(clients)]


def _list(headers: Headers, name: str) -> list[str]:
    return [each.strip() for value in headers.getlist(name) for each in value.split(",") if each.strip()]


def _forwarded(value: str) -> list[_Hop]:
    """Return the hops of a `Forwarded` header; none of one that breaks its grammar."""
    hops, pairs, position = [], {}, 0
    while position < len(value):
        match = PAIR.match(value, position)
        if match is None:
            return []
        name, quoted, plain = match.groups()
        pairs[name.lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
        position = match.end()
        separator = value[position : position + 1]
        if separator not in (";", ",", ""):
            return []
        if separator != ";":
            hops.append(_Hop(pairs.get("for", ""), pairs.get("proto", "").lower(), pairs.get("host", "")))
            pairs = {}
        position += 1
    return hops


def _address(text: str) -> Address | None:
    """Return an address, which may have a port; IPv6 in brackets then. None for a name, and for what is hidden."""
    try:
        return _unmapped(ipaddress.ip_address(text))
    except ValueError:
        pass
    try:
        return _unmapped(ipaddress.ip_address(urlsplit(f"//{text}").hostname or ""))
    except ValueError:
        return None


def _unmapped(address: Address) -> Address:
    """Return an IPv4 address that a socket for both families shows as one of IPv6 as what it is."""
    return getattr(address, "ipv4_mapped", None) or address
