"""Images by URL: fetched over HTTPS from public addresses only, within bounds of size, time and redirects.

Who names a URL makes this machine send a request, from inside its network. So a host name is resolved once, all of its
addresses must be public, and the connection goes to one of these and to nothing that is resolved again. Every redirect
is checked in the same way. Nothing is sent along: no credentials, no cookies. Proxies of the environment are not used,
since they would resolve the name themselves.
"""

import re
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from socket import SOCK_STREAM
from typing import TYPE_CHECKING, Any

import anyio

import wan_mcp
from wan_mcp.errors import BadImage
from wan_mcp.media.public_addresses import Address, address_of, is_public
from wan_mcp.text import in_bytes, quoted

if TYPE_CHECKING:
    from httpcore2 import AsyncNetworkBackend, Response
    from httpx2 import URL

__all__ = ["ImageUrls", "Reach", "is_url"]

WEB_URL = re.compile(r"\s*https?:", re.IGNORECASE)
TOTAL_S = 30.0
CONNECT_S = 5.0
TRIED = 3  # addresses of one host
REDIRECTS = 5
AT_ONCE = 4
MAX_URL = 4096  # characters
TYPES = re.compile(r"(image|video)/.*|(application|binary)/octet-stream|")
"""Content types that may be an image or a video; some stores call everything octet-stream."""
NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
PROXIES = "proxies are not used for image URLs"


async def _resolved(host: str, port: int) -> list[str]:
    found = await anyio.getaddrinfo(host, port, type=SOCK_STREAM)
    return [str(place[4][0]) for place in found]


@lru_cache(maxsize=1)
def _usual_tls() -> ssl.SSLContext:
    from httpx2 import create_ssl_context

    return create_ssl_context()  # that of the downloads of weights


@dataclass(frozen=True)
class Reach:
    """Where image URLs may lead. The defaults are the rule; tests that need a server on this machine pass others."""

    resolve: Callable[[str, int], Awaitable[list[str]]] = _resolved
    allows: Callable[[Address], bool] = is_public
    ports: frozenset[int] = frozenset({443})
    tls: Callable[[], ssl.SSLContext] = field(default=_usual_tls)
    total_s: float = TOTAL_S


def is_url(source: str) -> bool:
    """Check whether an image is named by a web address."""
    return WEB_URL.match(source) is not None


class ImageUrls:
    """Fetches images from the web, where the owner allows it."""

    def __init__(self, hosts: tuple[str, ...], max_mb: float, reach: Reach | None = None) -> None:
        """Allow these host names; `*.NAME` stands for all below NAME, `*` for all. None are allowed by default."""
        self._hosts, self._max_bytes = hosts, int(max_mb * 1e6)
        self.reach = reach or Reach()
        self._limiter = anyio.CapacityLimiter(AT_ONCE)

    @property
    def allowed(self) -> bool:
        """Whether any URL may be fetched."""
        return bool(self._hosts)

    async def fetch(self, source: str) -> bytes:
        """Return what is at a URL, at most as many bytes as an image may have.

        Raises:
            BadImage: The URL or a redirect is not allowed, or nothing usable came back in time; the message says why.
        """
        async with self._limiter:
            url = self._checked(_parsed(source.strip()))
            try:
                with anyio.fail_after(self.reach.total_s):
                    return await self._follow(url)
            except TimeoutError as error:
                raise BadImage(f"{url.host} did not send the image within {self.reach.total_s:g} s") from error

    async def _follow(self, url: "URL") -> bytes:
        from httpcore2 import AsyncConnectionPool

        backend = _pinned(self.reach)
        # One connection for each request: none may be used again for a name that was checked for another request.
        async with AsyncConnectionPool(
            ssl_context=self.reach.tls(), network_backend=backend, max_keepalive_connections=0, retries=0
        ) as pool:
            for _ in range(REDIRECTS + 1):
                found = await self._get(pool, url)
                if isinstance(found, bytes):
                    return found
                url = self._checked(found, redirected=True)
        raise BadImage(f"the image URL is redirected more than {REDIRECTS} times; use the address that it leads to")

    async def _get(self, pool: Any, url: "URL") -> "bytes | URL":
        """Return the body at a URL, or where it is redirected to."""
        import httpcore2

        headers = [
            ("Host", url.netloc.decode("ascii")),
            ("User-Agent", f"wan-mcp/{wan_mcp.__version__}"),
            ("Accept", "image/*, video/*;q=0.9, */*;q=0.1"),
            ("Accept-Encoding", "identity"),
            ("Connection", "close"),
        ]
        target = httpcore2.URL(scheme=b"https", host=url.raw_host, port=url.port or 443, target=url.raw_path)
        timeouts = {"connect": CONNECT_S, "read": self.reach.total_s, "write": CONNECT_S}
        try:
            async with pool.stream("GET", target, headers=headers, extensions={"timeout": timeouts}) as response:
                return await self._answer(response, url)
        except httpcore2.TimeoutException as error:
            raise BadImage(f"{url.host} does not answer in time ({PROXIES})") from error
        except (httpcore2.NetworkError, httpcore2.ProtocolError, ssl.SSLError, OSError) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise BadImage(f"the image cannot be read from {url.host} ({quoted(reason, 120)}; {PROXIES})") from error

    async def _answer(self, response: "Response", url: "URL") -> "bytes | URL":
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in (301, 302, 303, 307, 308) and "location" in headers:
            return _joined(url, headers["location"])
        if response.status != 200:
            raise BadImage(f"{url.host} answers with status {response.status} instead of an image")
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if not TYPES.fullmatch(kind):
            raise BadImage(f"{url.host} sends {quoted(kind, 60)}, which is not an image; use the address of the file")
        if headers.get("content-encoding", "identity").strip().lower() not in ("identity", ""):
            raise BadImage(f"{url.host} sends the image compressed once more, although it was asked not to")
        declared = headers.get("content-length", "0").strip()
        if declared.isascii() and declared.isdecimal() and (len(declared) > 15 or int(declared) > self._max_bytes):
            raise self._too_large(url)
        body = bytearray()
        async for chunk in response.aiter_stream():
            body += chunk
            if len(body) > self._max_bytes:
                raise self._too_large(url)
        return bytes(body)

    def _too_large(self, url: "URL") -> BadImage:
        return BadImage(f"the image at {url.host} is larger than the limit, {in_bytes(self._max_bytes)}")

    def _checked(self, url: "URL", *, redirected: bool = False) -> "URL":
        """Return a URL that may be requested, as far as it says itself."""
        what = "the image URL is redirected to one that" if redirected else "the image URL"
        host = url.raw_host.decode("ascii").lower().rstrip(".")
        if url.scheme != "https":
            raise BadImage(f"{what} does not begin with https://, the only kind that is fetched")
        if url.userinfo:
            raise BadImage(f"{what} has a user name or password in it; remove it")
        if not host:
            raise BadImage(f"{what} has no host name")
        if (url.port or 443) not in self.reach.ports:
            raise BadImage(f"{what} has port {url.port}; only the usual port of https is allowed: omit it")
        if address_of(host) is None and NUMBER.fullmatch(host.rpartition(".")[2]):
            raise BadImage(f"{what} has a number for its host; write the name of the host")
        if not any(_matches(host, pattern) for pattern in self._hosts):
            raise BadImage(
                f"{what} is on {quoted(host, 100)}; this server fetches images from {', '.join(self._hosts)} only "
                "(WAN_MCP_IMAGE_URLS)"
            )
        return url.copy_with(host=host, fragment=None)


def _parsed(source: str) -> "URL":
    from httpx2 import URL, InvalidURL

    if len(source) > MAX_URL:
        raise BadImage(f"the image URL has {len(source)} characters; the limit is {MAX_URL}")
    if re.search(r"[\s\\\x00-\x1f\x7f]", source):
        raise BadImage("the image URL has a blank or a backslash in it; write it percent-encoded")
    try:
        return URL(source)
    except (InvalidURL, ValueError) as error:
        raise BadImage(f"the image URL cannot be understood: {quoted(str(error), 120)}") from error


def _joined(url: "URL", location: str) -> "URL":
    from httpx2 import InvalidURL

    parsed = _parsed(location) if is_url(location) or "://" in location else None
    try:
        return parsed if parsed is not None else url.join(location)
    except (InvalidURL, ValueError) as error:
        raise BadImage(f"{url.host} redirects the image URL to an address that cannot be understood") from error


def _matches(host: str, pattern: str) -> bool:
    if pattern == "*":
        return True
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _usable(found: Iterable[str], reach: Reach) -> list[str]:
    """Return the addresses of a host if all may be reached; none if one may not."""
    addresses = [address_of(each) for each in dict.fromkeys(found)]
    if any(address is None or not reach.allows(address) for address in addresses):
        return []
    return [str(address) for address in addresses]


def _pinned(reach: Reach) -> "AsyncNetworkBackend":
    """Return what makes connections: to an address that was checked, by this address."""
    from httpcore2 import AnyIOBackend, AsyncNetworkBackend, AsyncNetworkStream, ConnectError, ConnectTimeout

    class Pinned(AsyncNetworkBackend):
        def __init__(self) -> None:
            self._sockets = AnyIOBackend()

        async def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> AsyncNetworkStream:
            try:
                found = [host] if address_of(host) is not None else await reach.resolve(host, port)
            except (OSError, UnicodeError):
                found = []
            # One sentence for all: it must not say which names of private networks exist.
            if not (usable := _usable(found, reach)):
                raise BadImage(f"{quoted(host, 100)} has no address on the public internet, which image URLs need")
            failure: Exception = ConnectError("no connection")
            for address in usable[:TRIED]:
                try:
                    return await self._sockets.connect_tcp(address, port, *args, **options)
                except (ConnectError, ConnectTimeout) as error:
                    failure = error
            raise failure

        async def connect_unix_socket(self, *args: Any, **options: Any) -> AsyncNetworkStream:
            raise ConnectError("image URLs have no sockets")

        async def sleep(self, seconds: float) -> None:
            await anyio.sleep(seconds)

    return Pinned()
