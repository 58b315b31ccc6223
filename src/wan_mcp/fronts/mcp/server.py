"""The MCP server: one for both protocol eras and all transports, over a job service that its caller owns."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.caching import CacheableMethod, CacheHint
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware

import wan_mcp
from wan_mcp.fronts.mcp import icons
from wan_mcp.fronts.mcp.completions import add_completions
from wan_mcp.fronts.mcp.default_models import default_models_in_words
from wan_mcp.fronts.mcp.http_entry import ENDPOINT, HttpEntry
from wan_mcp.fronts.mcp.middleware import InTheNameOfAnOwner, PromptsInWords, ReadsOfAClient
from wan_mcp.fronts.mcp.player_app import player_app
from wan_mcp.fronts.mcp.prompts import add_prompts
from wan_mcp.fronts.mcp.resources import add_resources
from wan_mcp.fronts.mcp.skills import Skills
from wan_mcp.fronts.mcp.stdio_streams import Incoming, Outgoing
from wan_mcp.fronts.mcp.subscriptions import Subscriptions
from wan_mcp.fronts.mcp.tasks import Tasks
from wan_mcp.fronts.mcp.tools import QUICK_TOOLS, build_tools
from wan_mcp.service.service import JobService
from wan_mcp.settings import Settings

__all__ = ["INSTRUCTIONS", "build_http_app", "build_server", "max_message_bytes", "serve_streams"]

log = logging.getLogger(__name__)

INSTRUCTIONS = (
    "Makes videos, images and captions on this machine. list_resolutions() lists models, sizes, styles and "
    "usual times. A call that is not done within wait_s returns a job_id: continue with get_job. "
    "Over HTTP, name a file of the user's machine as image: the answer has a link to send it. "
    "Always tell the user the path or the URL of a finished file. {defaults}"
)
STATIC = CacheHint(ttl_ms=3_600_000, scope="public")
MESSAGE_SPARE = 1_000_000
CACHE_HINTS: dict[CacheableMethod, CacheHint] = {
    "tools/list": STATIC,
    "prompts/list": STATIC,
    "resources/list": STATIC,
    "resources/templates/list": STATIC,
}


def build_server(service: JobService, subscriptions: Subscriptions | None = None) -> MCPServer[Any]:
    """Build a server over `service`, which must be serving for as long as the server runs."""
    subscriptions = subscriptions or Subscriptions(service)
    server: MCPServer[Any] = MCPServer(
        "wan_mcp",
        title="Wan studio",
        version=wan_mcp.__version__,
        instructions=INSTRUCTIONS.format(defaults=default_models_in_words(service)),
        icons=[icons.SERVER],
        tools=build_tools(service),
        cache_hints=CACHE_HINTS,
        subscriptions=False,  # served by the middleware
        lifespan=subscriptions.lifespan,
        extensions=[Tasks(service), player_app(service.settings.resource_max_kb), Skills()],
        middleware=[
            InTheNameOfAnOwner(),
            subscriptions,
            ReadsOfAClient(service.media),
            PromptsInWords(lambda: server.list_prompts()),
        ],
    )
    add_resources(server, service)
    add_prompts(server)
    add_completions(server, service)
    return server


def max_message_bytes(settings: Settings) -> int:
    """Return the size of the largest message that a client may send: two images in base64, and room for the rest."""
    return int(settings.image_max_mb * 1e6 * 2 * 4 / 3) + MESSAGE_SPARE


async def serve_streams(server: MCPServer[Any], incoming: Incoming, outgoing: Outgoing) -> None:
    """Serve one session until its incoming stream ends."""
    # `run_stdio_async` does the same over the SDK's own transport, and takes no other (2.3). What runs over any two
    # streams is reached by the session manager, which exists once an HTTP application was made.
    server.streamable_http_app()
    lowlevel = server.session_manager.app
    await lowlevel.run(incoming, outgoing, lowlevel.create_initialization_options())


def build_http_app(service: JobService) -> Starlette:
    """Build the server as an ASGI application with the endpoint /mcp. It does not authenticate its callers."""
    most = max_message_bytes(service.settings)
    subscriptions = Subscriptions(service)
    server = build_server(service, subscriptions)
    # Of one server: calls with progress need a stream, and quick ones are cheaper without.
    streams, quick = (
        server.streamable_http_app(
            streamable_http_path=ENDPOINT,
            stateless_http=True,  # any process can answer any request
            json_response=json_response,
            max_request_body_size=most,
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        for json_response in (False, True)
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with streams.router.lifespan_context(streams), quick.router.lifespan_context(quick):
            yield

    entry = Middleware(HttpEntry, most, service, quick, QUICK_TOOLS)
    app = Starlette(routes=streams.routes, middleware=[entry], lifespan=lifespan)
    app.state.subscriptions = subscriptions
    if not log.isEnabledFor(logging.DEBUG):
        # It says at each request of a stateless server that a session without a name ends.
        logging.getLogger("mcp.server.streamable_http").setLevel(logging.WARNING)
    return app
