"""The HTTP front: MCP at /mcp, the video API at /v1, media at /media with ranges, and /healthz, all behind guards."""

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import wan_mcp
from wan_mcp.errors import BadRequest, OutOfSpace, UserError
from wan_mcp.fronts.discretion import discreet, is_near
from wan_mcp.fronts.http.callers import Callers
from wan_mcp.fronts.http.connections import (
    ACCEPTED_AT_ONCE,
    Connection,
    Listener,
    max_connections,
    quiet_without_descriptors,
)
from wan_mcp.fronts.http.credentials import Credentials
from wan_mcp.fronts.http.guard import (
    BearerToken,
    TrustedHost,
    TrustedOrigin,
    is_loopback,
    known_names,
    refuse_open_door,
)
from wan_mcp.fronts.http.media_names import name_of_media
from wan_mcp.fronts.http.oauth import ResourceServer
from wan_mcp.fronts.http.open_requests import OpenRequests
from wan_mcp.fronts.http.peer import can_tell_users
from wan_mcp.fronts.http.previews import preview_route
from wan_mcp.fronts.http.proxies import NamedProxies
from wan_mcp.fronts.http.quiet_end import QuietEnd
from wan_mcp.fronts.http.servers import announced, url_of
from wan_mcp.fronts.http.tls import require_pair
from wan_mcp.fronts.http.uploads import upload_routes
from wan_mcp.fronts.mcp.http_entry import ENDPOINT
from wan_mcp.fronts.mcp.process_end import end_within
from wan_mcp.fronts.mcp.server import build_http_app
from wan_mcp.fronts.mcp.subscriptions import Subscriptions
from wan_mcp.fronts.media_answer import media_answer
from wan_mcp.fronts.openai.error_words import ErrorWords
from wan_mcp.fronts.openai.routes import api_routes
from wan_mcp.fronts.web.page import Page
from wan_mcp.logs import log_to_stderr
from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.service.service import JobService, serving
from wan_mcp.service.tokens import Tokens
from wan_mcp.settings import Settings

__all__ = ["build_app", "listen", "run_http", "settings_for"]

log = logging.getLogger(__name__)

GOODBYE_S = 3  # how long open calls may go on when the server stops; their jobs go on anyway
LAST_CALL_S = 2  # and how much longer something that cannot be interrupted
GARBAGE = 10_000, 20, 20
"""Objects more than before, and collections of the youngest and of the middle ones, after which Python collects."""
CROSS_ORIGIN: dict[str, Any] = {
    "allow_origin_regex": ".*",  # untrusted ones were refused before
    "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
    "allow_headers": ["*"],
    "allow_private_network": True,
    "expose_headers": [
        "Mcp-Session-Id", "MCP-Protocol-Version", "Accept-Ranges", "Content-Length", "Content-Range", "ETag",
        "WWW-Authenticate",
    ],
}  # fmt: skip


def build_app(service: JobService, host: str, *, own_user_only: bool = False, callers_known: bool = True) -> Starlette:
    """Return the application for a server that listens on `host`; `own_user_only` as in `Callers`.

    Where it is not known who calls, browsers have to sign in: other users of the machine could open the page.

    Raises:
        UserError: the settings of OAuth cannot be used.
    """
    mcp, oauth = build_http_app(service), ResourceServer.of(service.settings)
    needs_token = bool(service.settings.http_token) or oauth is not None or not is_loopback(host)
    sign_in = needs_token or not callers_known
    credentials = Credentials(service.settings.http_token, Tokens(service.settings.home), oauth)
    reachable = None if is_loopback(host) else host
    page = Page(service, sign_in=sign_in, host=reachable) if service.settings.http_page else None
    app = Starlette(
        routes=[
            *(oauth.routes() if oauth else ()),
            *mcp.routes,
            *_routes(service),
            *upload_routes(service),
            *api_routes(service),
            *(page.routes() if page else ()),
        ],
        middleware=[
            Middleware(ErrorWords),
            Middleware(QuietEnd),
            *_guards(host, service.settings),
            Middleware(BearerToken, credentials, page.access if page else None, required=needs_token),
            Middleware(Callers, host, own_user_only=own_user_only),
            Middleware(OpenRequests),
            *mcp.user_middleware,
        ],
        exception_handlers={HTTPException: _in_words},
        lifespan=_lifespan(mcp, page),
    )
    app.state.page = page
    app.state.subscriptions = mcp.state.subscriptions
    return app


def _lifespan(mcp: Starlette, page: Page | None) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with mcp.router.lifespan_context(mcp), page.running() if page else nullcontext():
            yield

    return lifespan


def _guards(host: str, settings: Settings) -> list[Middleware]:
    """Return the guards of where a request comes from, in the order in which they check it."""
    names = known_names(host, settings.http_hosts.split(","))
    return [
        Middleware(NamedProxies, settings.trusted_proxies),
        Middleware(TrustedHost, names, any_address=not is_loopback(host)),
        Middleware(TrustedOrigin, names),
        Middleware(CORSMiddleware, **CROSS_ORIGIN),
    ]


def _routes(service: JobService) -> list[Route]:
    async def healthz(request: Request) -> Response:
        """Report whether this front works, and what its engines do.

        It works if it can read the job table, and supervises the engines.
        """
        trouble, engines = await service.health()
        if trouble is not None:
            reason = trouble if is_near(request.scope) else discreet(trouble, service.settings.home)
            return JSONResponse({"status": "unusable", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok", "version": wan_mcp.__version__, "engines": engines})

    async def media(request: Request) -> Response:
        """Serve a result's file, a conversion of it, or a video's sheet or poster; players may request ranges of it."""
        address = f"wan://{request.path_params['folder']}/{request.path_params['file']}"
        try:
            path, mime_type = await service.conversions.find(address)
        except BadRequest as error:
            raise HTTPException(404) from error
        except UserError as error:  # it cannot be converted
            reason = str(error) if is_near(request.scope) else discreet(str(error), service.settings.home)
            raise HTTPException(507 if isinstance(error, OutOfSpace) else 500, reason) from error
        response = await media_answer(request, path, mime_type, await name_of_media(service, path))
        if response is None:
            raise HTTPException(404)
        return response

    return [Route("/healthz", healthz), preview_route(service), Route("/media/{folder}/{file}", media)]


async def _in_words(request: Request, error: Exception) -> Response:
    """Answer a request that no route serves."""
    assert isinstance(error, HTTPException)
    match error.status_code:
        case 404:
            words = f"Nothing is at this address. MCP is at {ENDPOINT}, the video API at /v1, results are at "
            words += "/media/videos/ID.mp4 (or .gif, .webm, .webp) and /media/images/ID.png (or .jpg, .webp), "
            words += "and /healthz reports whether the server works."
        case 405:
            allowed = (error.headers or {}).get("Allow", "GET")
            words = f"Method {request.method} is not allowed here; allowed: {allowed}."
        case _:
            words = error.detail
    return PlainTextResponse(f"{words}\n", error.status_code, error.headers)


def settings_for(host: str, settings: Settings, *, callers_known: bool = True) -> Settings:
    """Return the settings of a server on `host`.

    Remote callers may use results, but not this machine's folders; nor may callers of whom nothing is known.
    """
    if is_loopback(host) and callers_known:
        return settings
    return settings.model_copy(update={"image_dirs": (), "lora_dirs": ()})


def run_http(
    settings: Settings,
    host: str,
    port: int,
    *,
    on_listening: Callable[[str], None] = lambda url: None,
    any_port: bool = False,
) -> None:
    """Serve HTTP clients on `host` and `port` until a signal says to stop.

    Args:
        settings: The server's settings.
        host: The address to listen on.
        port: The port; 0 picks a free one.
        on_listening: Called with the server's URL as soon as it can be reached.
        any_port: Pick a free port if this one is taken.

    Raises:
        UserError: It must not or cannot listen there; the message says what to do.
    """
    log_to_stderr(settings.log_level)
    pair = require_pair(settings.tls_cert, settings.tls_key)
    ContentCredentials.require_usable_ones(settings)
    oauth = ResourceServer.of(settings)
    refuse_open_door(host, settings.http_token, others=oauth is not None or Tokens(settings.home).any())
    try:
        listener = listen(host, port)
    except UserError:
        if not any_port:
            raise
        listener = listen(host, 0)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # until there is something to stop in good order
    anyio.run(_serve, settings, host, listener, on_listening, pair)


class _Server(uvicorn.Server):
    """A server that ends soon after it was told to, whatever still runs."""

    page: Page | None = None
    subscriptions: Subscriptions

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at a signal."""
        log.info("stopping at signal %d", sig)
        end_within(GOODBYE_S + LAST_CALL_S, 0)
        if self.page is not None:
            self.page.close()
        self.subscriptions.close()
        super().handle_exit(sig, frame)


async def _serve(
    settings: Settings,
    host: str,
    listener: socket.socket,
    on_listening: Callable[[str], None],
    pair: tuple[Path, Path] | None,
) -> None:
    """Serve on a bound socket until the process is told to stop; over TLS with the `pair` of certificate and key."""
    asyncio.get_running_loop().set_exception_handler(quiet_without_descriptors)
    own_user_only = not settings.http_token
    callers_known = not own_user_only or can_tell_users()
    if not callers_known:
        log.warning(
            "this system does not tell which user calls, so no folder is open over HTTP; "
            "set WAN_MCP_HTTP_TOKEN to open them to the clients that send it"
        )
    async with serving(settings_for(host, settings, callers_known=callers_known)) as service:
        app = build_app(service, host, own_user_only=own_user_only, callers_known=callers_known)
        config = uvicorn.Config(
            app,
            http=Connection,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GOODBYE_S,
            limit_concurrency=max_connections(),
            backlog=ACCEPTED_AT_ONCE,
            lifespan="off",
            ws="none",
            ssl_certfile=pair[0] if pair else None,
            ssl_keyfile=pair[1] if pair else None,
            proxy_headers=False,  # the caller is who is connected; see `NamedProxies`
        )
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        scheme = "https" if pair else "http"
        url = url_of(address, port, scheme)
        server = _Server(config)
        server.page = app.state.page
        server.subscriptions = app.state.subscriptions
        # uvicorn handles these while it serves, and raises them again when it has stopped.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, server.handle_exit)
        try:
            # Entered here and not by uvicorn, which would go on without it if it failed.
            with announced(settings.home, url, page=settings.http_page):
                log.info("listening on %s://%s:%d%s", scheme, shown, port, ENDPOINT)
                async with app.router.lifespan_context(app):
                    _spare_garbage_collection()
                    on_listening(url)
                    await server.serve(sockets=[listener])
        except BaseException:  # a background task has failed: without it, this process is of no use
            end_within(LAST_CALL_S, 1)
            raise


def _spare_garbage_collection() -> None:
    """Let the collector pass over what is there now, and look less often at what calls add: it took a fifth of a call.

    What calls leave is freed at once, except for cycles, which are small.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises:
        UserError: The address cannot be used; the message says what to do.
    """
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        made = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from error
    # Connections inherit it. asyncio does this for its own sockets only, and without it every
    # answer waits some 40 ms for the client's delayed acknowledgement.
    listener = Listener(fileno=made.detach())
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
