"""The page itself and its static files: nothing on it comes from another host, and nothing inline is run."""

import hashlib
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anyio.to_thread import run_sync
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles

if TYPE_CHECKING:
    from jinja2 import Environment

__all__ = ["PAGE_HEADERS", "Shell"]

HERE = Path(__file__).parent
TEMPLATES, STATIC = HERE / "templates", HERE / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/plain; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""Of the files that are served; not those of the system, which differ."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "manifest-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
PAGE_HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}
FOR_EVER = "public, max-age=31536000, immutable"
LOOK_S = 1.0  # between two looks at the folder
CONDITIONS = StaticFiles()  # for its check of If-None-Match and If-Modified-Since


class Shell:
    """The page's HTML and static files.

    A static file is at /static/VERSION/PATH, where VERSION is a hash of all of them. Modules that import each other by
    relative paths are of one version, and can be kept by a browser for ever.
    """

    def __init__(self) -> None:
        self._templates: Environment | None = None
        self._listing: list[tuple[str, int, int]] = []
        self._version = ""
        self._looked = -LOOK_S

    async def page(self, request: Request, template: str = "index.html", status: int = 200, **values: Any) -> Response:
        """Return a page that is made from a template."""
        html = await run_sync(partial(self._render, template, values))
        tag = f'"{hashlib.sha256(html).hexdigest()[:32]}"'
        response = Response(html, status, PAGE_HEADERS | {"ETag": tag}, "text/html")
        if status == 200 and CONDITIONS.is_not_modified(response.headers, request.headers):
            return NotModifiedResponse(response.headers)
        return response

    def _render(self, template: str, values: dict[str, Any]) -> bytes:
        if self._templates is None:
            from jinja2 import Environment, FileSystemLoader, StrictUndefined

            self._templates = Environment(
                loader=FileSystemLoader(TEMPLATES),
                autoescape=True,  # in every file, whatever its name
                undefined=StrictUndefined,
                trim_blocks=True,
                lstrip_blocks=True,
            )
        version = self.version()
        words = self._templates.get_template(template).render(
            static=lambda path: f"/static/{version}/{path}", version=version, **values
        )
        return words.encode()

    def version(self) -> str:
        """Return a hash of all static files."""
        if time.monotonic() < self._looked + LOOK_S:  # an opening page asks for fifty of them
            return self._version
        listing = _listed()
        if listing != self._listing:
            digest = hashlib.sha256()
            for name, _, _ in listing:
                digest.update(name.encode() + b"\0" + hashlib.sha256((STATIC / name).read_bytes()).digest())
            self._listing, self._version = listing, digest.hexdigest()[:16]
        self._looked = time.monotonic()  # now that other threads have something to read
        return self._version

    async def static(self, request: Request) -> Response:
        """Serve a static file."""
        return await run_sync(self._static, request)

    def _static(self, request: Request) -> Response:
        name = request.path_params["path"]
        version = self.version()
        # Only what the listing has: no path that a client makes up is ever opened.
        if name not in {each for each, _, _ in self._listing}:
            raise HTTPException(404)
        file = STATIC / name
        status = file.stat()
        tag = hashlib.sha256(f"{version}/{name}/{status.st_size}".encode()).hexdigest()[:32]
        current = request.path_params["version"] == version
        headers = {
            "Cache-Control": FOR_EVER if current else "no-cache",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Resource-Policy": "same-origin",
            "X-Content-Type-Options": "nosniff",
            "ETag": f'"{tag}"',
        }
        response = FileResponse(file, media_type=MEDIA_TYPES[file.suffix], headers=headers, stat_result=status)
        if CONDITIONS.is_not_modified(response.headers, request.headers):
            return NotModifiedResponse(response.headers)
        return response


def _listed() -> list[tuple[str, int, int]]:
    """Return each static file's path below the folder, with its size and time."""
    found = []
    for file in sorted(STATIC.rglob("*")):
        if file.suffix in MEDIA_TYPES and file.is_file():
            status = file.stat()
            found.append((file.relative_to(STATIC).as_posix(), status.st_size, status.st_mtime_ns))
    return found
