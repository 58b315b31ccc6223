"""Where the client of a call finds the files of a result: by path on its own machine, by URL over HTTP.

A path on the server's machine means nothing to a client on another one, so such a client reads URLs only.
"""

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

from starlette.requests import Request

from wan_mcp.errors import BadRequest
from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.signed_links import SignedLinks
from wan_mcp.media.store import MediaName, MediaStore
from wan_mcp.schema.jobs import Artifact

__all__ = ["Places"]


@dataclass(frozen=True)
class Places:
    """How one client reaches the media folder."""

    media: MediaStore
    base_url: str | None = None
    """The server's address without a slash at its end; None on stdio."""
    same_machine: bool = True
    signed: Callable[[str], str] = str
    """Makes a path below /media one that the client can open without the server's token."""

    @classmethod
    def of(cls, media: MediaStore, context: Any) -> Self:
        """Return how the client of a call (the SDK's `Context`) reaches the files."""
        return cls.of_request(media, context.request_context.request)

    @classmethod
    def of_request(cls, media: MediaStore, request: Any) -> Self:
        """Return how the client of an HTTP request reaches the files; `request` is None on stdio."""
        if not isinstance(request, Request):
            return cls(media)
        near = is_near(request.scope) and _is_loopback(request.base_url.hostname or "")
        return cls(media, str(request.base_url).rstrip("/"), near, partial(SignedLinks.signed, request.scope))

    def url_of(self, path: Path) -> str | None:
        """Return the URL of a file in the media folder; None on stdio."""
        if self.base_url is None:
            return None
        return self.base_url + self.signed(f"/media/{path.parent.name}/{path.name}")

    def path(self, path: Path) -> str | None:
        """Return the path, if it is one on the client's machine."""
        return str(path) if self.same_machine else None

    def small_pictures(self, artifact: Artifact) -> tuple[Path | None, Path | None]:
        """Return the files of a video's contact sheet and poster, as far as they exist."""
        try:
            name = MediaName.parse(artifact.uri)
        except BadRequest:
            return None, None
        sheet, poster = self.media.sheet(name), self.media.poster(name)
        return (sheet if sheet.is_file() else None), (poster if poster.is_file() else None)

    def best(self, path: Path) -> str:
        """Return the one place that a person would open: the path, or the URL from another machine."""
        return self.path(path) or self.url_of(path) or str(path)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
