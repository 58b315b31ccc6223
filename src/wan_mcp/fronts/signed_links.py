"""Links that open one file for a while, for clients that cannot send the server's token: players, browsers, people.

A link carries its end, a signature over that end and the path (HMAC-SHA-256), and whose token has made it. It opens
conversions of the file as well. The key is made from that token, so links end with it, and no other secret has to be
kept.
"""

import hmac
import math
import time
from collections.abc import Callable
from typing import Self
from urllib.parse import parse_qs, urlencode

from starlette.types import Scope

from wan_mcp.media.store import CONVERSIONS, EXTENSIONS

__all__ = ["SignedLinks"]

SCOPE_KEY = "wan_mcp.signed_links"
PURPOSE = b"wan-mcp links to media 1"
ROOT = "/media/"
LIFETIME_S = 3600
ROUNDED_S = 600  # links of the same ten minutes are equal, so that a browser finds what it has


class SignedLinks:
    """What signs links, and admits those who have one."""

    def __init__(self, token: str, clock: Callable[[], float] = time.time, owner: str = "") -> None:
        """Sign with a key made from `token`, in the name of `owner`."""
        self._clock, self._owner = clock, owner
        self._key = hmac.digest(token.encode(), PURPOSE, "sha256")

    @staticmethod
    def owner_in(scope: Scope) -> str | None:
        """Return in whose name a request says that its link was made; None if it has none."""
        if scope["method"] not in ("GET", "HEAD") or not scope["path"].startswith(ROOT):
            return None
        query = _query(scope)
        return query.get("owner", [""])[0] if "signature" in query else None

    def offer(self, scope: Scope) -> None:
        """Let the answer to an admitted request carry signed links."""
        scope[SCOPE_KEY] = self

    @classmethod
    def signed(cls, scope: Scope, path: str) -> str:
        """Return a path below /media as the caller of a request may open it without the token."""
        links: Self | None = scope.get(SCOPE_KEY)
        return path if links is None else links.sign(path)

    def sign(self, path: str) -> str:
        """Return a path with its signature, for an hour to an hour and ten minutes."""
        expires = math.ceil(self._clock() / ROUNDED_S) * ROUNDED_S + LIFETIME_S
        owner = {"owner": self._owner} if self._owner else {}
        query = {"expires": expires, **owner, "signature": self._signature(path, str(expires))}
        return f"{path}?{urlencode(query)}"

    def admits(self, scope: Scope) -> bool:
        """Check whether a request reads the file that its signature is for, in time."""
        if self.owner_in(scope) != self._owner:
            return False
        query = _query(scope)
        expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
        if not (expires.isascii() and expires.isdecimal() and len(expires) < 12) or int(expires) < self._clock():
            return False
        return hmac.compare_digest(signature.encode(), self._signature(scope["path"], expires).encode())

    def _signature(self, path: str, expires: str) -> str:
        return hmac.digest(self._key, f"{expires} {_unconverted(path)}".encode(), "sha256").hex()


def _unconverted(path: str) -> str:
    """Return the path of the result that a path is a conversion of, such as a GIF: they show the same."""
    for kind, endings in CONVERSIONS.items():
        stem, dot, ending = path.rpartition(".")
        if stem.startswith(f"{ROOT}{kind}s/") and "." not in stem and f"{dot}{ending}" in endings:
            return f"{stem}.{EXTENSIONS[kind]}"
    return path


def _query(scope: Scope) -> dict[str, list[str]]:
    try:
        return parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=10)
    except ValueError:  # more fields than any link has
        return {}
