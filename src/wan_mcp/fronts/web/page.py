"""The routes of the page, and what runs as long as they are served."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

import wan_mcp
from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.identity import owner_of_request
from wan_mcp.fronts.web.access import PageAccess
from wan_mcp.fronts.web.answers import Answers, Endpoint, Refusal
from wan_mcp.fronts.web.cards import Cards
from wan_mcp.fronts.web.connect import ConnectRoutes
from wan_mcp.fronts.web.engine_routes import EngineRoutes
from wan_mcp.fronts.web.feed import Feed
from wan_mcp.fronts.web.inputs import Inputs
from wan_mcp.fronts.web.job_routes import JobRoutes
from wan_mcp.fronts.web.model_routes import ModelRoutes, download_card
from wan_mcp.fronts.web.phone import PhoneRoutes
from wan_mcp.fronts.web.same_origin import require_same_origin
from wan_mcp.fronts.web.shell import Shell
from wan_mcp.service.background import Health, background, retried
from wan_mcp.service.model_downloads import ModelDownload
from wan_mcp.service.service import JobService

__all__ = ["Page"]

PING_S = 15
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


class Page:
    """The studio page of one server."""

    def __init__(self, service: JobService, *, sign_in: bool = False, host: str | None = None) -> None:
        """Require a sign-in with `sign_in`; otherwise the server's other guards say who is answered.

        `host` is the address on which other machines reach the server; None if they do not.
        """
        self._service = service
        self._answers = Answers(service)
        self._shell = Shell()
        self.access = PageAccess(service, self._shell, self._answers, sign_in=sign_in)
        cards = Cards(service.media, service.catalog, service.settings)
        self._feed = Feed(service, cards)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._models = ModelRoutes(service, self._answers, self._on_download)
        self._inputs = Inputs(service, self._answers)
        self._jobs = JobRoutes(service, self._answers, cards, self._inputs)
        self._engines = EngineRoutes(service, self._answers)
        self._connect = ConnectRoutes(service, self._answers)
        self._phone = PhoneRoutes(self.access, self._answers, host)

    def routes(self) -> list[BaseRoute]:
        """Return the routes: the page, its static files and its API."""
        jobs, models, inputs, engines = self._jobs, self._models, self._inputs, self._engines
        return [
            Route("/", self.index, methods=["GET"]),
            *self.access.routes(),
            Route("/static/{version}/{path:path}", self._shell.static, methods=["GET"]),
            self._api("/api/catalogue", GET=models.catalogue),
            self._api("/api/inputs", POST=inputs.upload),
            self._api("/api/inputs/{id}", GET=inputs.show),
            self._api("/api/estimate", POST=jobs.estimate),
            self._api("/api/jobs", GET=jobs.page, POST=jobs.submit),
            self._api("/api/jobs/{id}", GET=jobs.show, PATCH=jobs.change, DELETE=jobs.delete),
            self._api("/api/jobs/{id}/cancel", POST=jobs.cancel),
            self._api("/api/jobs/{id}/move", POST=jobs.move),
            self._api("/api/events", GET=self.events),
            self._api("/api/engines", GET=engines.show),
            self._api("/api/engines/free", POST=engines.free),
            self._api("/api/models", GET=models.disk),
            self._api("/api/models/{model}", DELETE=models.remove),
            self._api("/api/models/{model}/get", POST=models.get),
            self._api("/api/models/{model}/stop", POST=models.stop),
            self._api("/api/connect", GET=self._connect.show),
            self._api("/api/connect/test", GET=self._connect.test),
            self._api("/api/phone", POST=self._phone.make),
        ]

    def _api(self, path: str, **endpoints: Endpoint) -> Route:
        """Return a route with one endpoint a method, behind the check of where a request comes from."""

        async def endpoint(request: Request) -> Response:
            require_same_origin(request)
            method = "GET" if request.method == "HEAD" else request.method
            return await endpoints[method](request)

        return Route(path, self._answers.guarded(endpoint), methods=list(endpoints))

    async def index(self, request: Request) -> Response:
        """Serve the page."""
        return await self._shell.page(
            request,
            app_version=wan_mcp.__version__,
            near=is_near(request.scope),
            signed_in=await self.access.signed_in(request),
            owner=owner_of_request(request.scope),
        )

    async def events(self, request: Request) -> Response:
        """Serve the stream of events: a snapshot of unfinished jobs, then all that changes."""
        from sse_starlette import EventSourceResponse

        since = request.headers.get("last-event-id") or request.query_params.get("since")
        if since is not None and not (since.isdecimal() and len(since) < 19):
            raise Refusal(400, "bad_request", "Last-Event-ID is not one of this server's.")
        events = self._feed.subscribe(
            None if since is None else int(since), near=is_near(request.scope), owner=owner_of_request(request.scope)
        )
        return EventSourceResponse(events, headers=STREAM_HEADERS, ping=PING_S, sep="\n")

    def _on_download(self, download: ModelDownload) -> None:
        """Send the progress of a download to all pages; called in its thread."""
        card = download_card(download).model_dump(mode="json")
        if self._loop is not None:
            with suppress(RuntimeError):  # the server has stopped
                self._loop.call_soon_threadsafe(self._feed.publish, "download", card)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run what sends events, until the block ends."""
        feed = retried(self._feed.run, "pages receive no changes", Health())
        try:
            async with background(feed):
                self._loop = asyncio.get_running_loop()
                yield
        finally:
            self._models.downloads.stop_all()
            self.close()

    def close(self) -> None:
        """End all streams of events: the server stops."""
        self._feed.close()
