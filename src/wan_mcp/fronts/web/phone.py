"""The addresses of the page for another device in this network, each with a link that signs it in once.

The link signs in the owner who has asked for it.
"""

import ipaddress
import socket

import psutil
from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response

from wan_mcp.fronts.web.access import SIGN_IN, PageAccess
from wan_mcp.fronts.web.answers import Answers
from wan_mcp.fronts.web.shapes import PhoneAnswer
from wan_mcp.service.owners import owner_now

__all__ = ["PhoneRoutes", "addresses_of"]


class PhoneRoutes:
    """The endpoint of links for another device."""

    def __init__(self, access: PageAccess, answers: Answers, host: str | None) -> None:
        """`host` is what the server listens on; None if only this machine reaches it."""
        self._access, self._answers, self._host = access, answers, host

    async def make(self, request: Request) -> Response:
        """Make a link for each address by which another device may reach this server."""
        if self._host is None:
            return self._answers.plain(PhoneAnswer(links=[]))
        bases = await run_sync(addresses_of, self._host)
        port = request.url.port
        urls = [f"{request.url.scheme}://{base}{f':{port}' if port else ''}" for base in bases]
        if not _is_here(request.url.hostname or ""):  # this browser's own way works, whatever is in between
            urls = list(dict.fromkeys([str(request.base_url).rstrip("/"), *urls]))
        end = f"{SIGN_IN}?code={await self._access.make_link(owner_now())}" if self._access.required else "/"
        return self._answers.plain(PhoneAnswer(links=[f"{url}{end}" for url in urls]))


def addresses_of(host: str) -> list[str]:
    """Return the names of this machine in URLs, for a server that listens on `host`; those of home networks first."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return [host]
    if not address.is_unspecified:
        return [f"[{host}]" if address.version == 6 else host]
    up = {name for name, state in psutil.net_if_stats().items() if state.isup}
    found = [
        ipaddress.ip_address(each.address)
        for name, addresses in psutil.net_if_addrs().items()
        for each in addresses
        if name in up and each.family == socket.AF_INET
    ]
    usable = [each for each in found if not each.is_loopback and not each.is_link_local]
    return [str(each) for each in sorted(usable, key=lambda each: not each.is_private)]


def _is_here(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"
