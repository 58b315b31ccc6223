"""The HTTP front: MCP at /mcp, media at /media with ranges, and /healthz, all behind the guards."""

import logging
import signal
import socket
from types import FrameType

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

import wan_mcp
from wan_mcp.errors import BadRequest, UserError
from wan_mcp.fronts.http.callers import Callers
from wan_mcp.fronts.http.guard import (
    BearerToken,
    TrustedHost,
    TrustedOrigin,
    is_loopback,
    known_names,
    refuse_open_door,
)
from wan_mcp.fronts.http.peer import can_tell_users
from wan_mcp.fronts.mcp.server import build_http_app
from wan_mcp.logs import log_to_stderr
from wan_mcp.service.service import JobService, serving
from wan_mcp.settings import Settings

__all__ = ["build_app", "listen", "run_http", "settings_for"]

log = logging.getLogger(__name__)

GOODBYE_S = 3  # how long open calls may go on when the server stops; their jobs go on anyway
BODY_SPARE = 1_000_000
MEDIA_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


def build_app(service: JobService, host: str, *, own_user_only: bool = False) -> Starlette:
    """Return the application for a server that listens on `host`; `own_user_only` as in `Callers`."""
    settings = service.settings
    most = int(settings.image_max_mb * 1e6 * 2 * 4 / 3) + BODY_SPARE  # two pictures in base64
    mcp = build_http_app(service, most)
    return Starlette(
        routes=[*mcp.routes, *_routes(service)],
        middleware=[
            *_guards(host, settings),
            Middleware(Callers, host, own_user_only=own_user_only),
            *mcp.user_middleware,
        ],
        lifespan=mcp.router.lifespan_context,
    )


def _guards(host: str, settings: Settings) -> list[Middleware]:
    """Return the guards in the order in which they check a request, before anything else sees it."""
    names = known_names(host, settings.http_hosts.split(","))
    guards = [
        Middleware(TrustedHost, names, any_address=not is_loopback(host)),
        Middleware(TrustedOrigin, names),
    ]
    return guards + ([Middleware(BearerToken, settings.http_token)] if settings.http_token else [])


def _routes(service: JobService) -> list[Route]:
    async def healthz(request: Request) -> Response:
        """Report whether this front works: whether it can read the job table."""
        try:
            await service.newest(limit=1)
        except UserError as error:
            return JSONResponse({"status": "unusable", "reason": str(error)}, status_code=503)
        return JSONResponse({"status": "ok", "version": wan_mcp.__version__})

    async def media(request: Request) -> Response:
        """Serve a result's file, or a video's sheet or poster; players may request ranges of it."""
        try:
            path, mime_type = service.media.find(f"wan://{request.path_params['folder']}/{request.path_params['file']}")
        except BadRequest as error:
            raise HTTPException(404) from error
        if not await anyio.Path(path).is_file():
            raise HTTPException(404)
        return FileResponse(path, media_type=mime_type, headers=MEDIA_HEADERS)

    return [Route("/healthz", healthz), Route("/media/{folder}/{file}", media)]


def settings_for(host: str, settings: Settings, *, callers_known: bool = True) -> Settings:
    """Return the settings of a server on `host`.

    Remote callers may use results, but not this machine's folders; nor may callers of whom nothing is known.
    """
    if is_loopback(host) and callers_known:
        return settings
    return settings.model_copy(update={"image_dirs": (), "lora_dirs": ()})


def run_http(settings: Settings, host: str, port: int) -> None:
    """Serve HTTP clients on `host` and `port` until a signal says to stop.

    Raises:
        UserError: It must not or cannot listen there; the message says what to do.
    """
    log_to_stderr(settings.log_level)
    refuse_open_door(host, settings.http_token)
    listener = listen(host, port)
    # uvicorn stops in good order at these and then raises them again, for handlers such as this one.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _already_stopped)
    anyio.run(_serve, settings, host, listener)


async def _serve(settings: Settings, host: str, listener: socket.socket) -> None:
    """Serve on a bound socket until the process is told to stop."""
    own_user_only = not settings.http_token
    callers_known = not own_user_only or can_tell_users()
    if not callers_known:
        log.warning(
            "this system does not tell which user calls, so no folder is open over HTTP; "
            "set WAN_MCP_HTTP_TOKEN to open them to the clients that send it"
        )
    async with serving(settings_for(host, settings, callers_known=callers_known)) as service:
        config = uvicorn.Config(
            build_app(service, host, own_user_only=own_user_only),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=GOODBYE_S,
            ws="none",
            proxy_headers=False,  # the caller is who is connected; see `Callers`
        )
        address, port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        log.info("listening on http://%s:%d/mcp", shown, port)
        await uvicorn.Server(config).serve(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket; port 0 picks a free one.

    Raises:
        UserError: The address cannot be used; the message says what to do.
    """
    try:
        [(family, *_, address), *_] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listener = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise UserError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port") from error
    # Connections inherit it. asyncio does this for its own sockets only, and without it every
    # answer waits some 40 ms for the client's delayed acknowledgement.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _already_stopped(number: int, frame: FrameType | None) -> None:
    log.info("stopped by signal %d", number)
