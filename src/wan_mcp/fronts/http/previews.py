"""The live preview of a running job at /media/previews/ID.jpg. Each request counts as a look at the job."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from wan_mcp.errors import UnknownJob
from wan_mcp.service.previews import live_preview
from wan_mcp.service.service import JobService

__all__ = ["preview_route"]

FILE = re.compile(r"(?P<id>[0-9a-z]{20})\.jpg")
NEVER_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
NONE_YET = "There is no preview yet: one is made at the end of a denoising step while somebody looks. Ask again.\n"


def preview_route(service: JobService) -> Route:
    """Return the route of the live previews; it stands before the route of all media."""

    async def preview(request: Request) -> Response:
        """Serve the newest preview of a job that is denoised; 404 while there is none, and after its end."""
        match = FILE.fullmatch(request.path_params["file"])
        if match is None:
            raise HTTPException(404)
        try:
            job = (await service.view(match["id"])).job
        except UnknownJob as error:
            raise HTTPException(404) from error
        picture = await live_preview(service, job)
        if picture is not None:
            return Response(picture, media_type="image/jpeg", headers=NEVER_KEPT)
        if job.state.final:
            raise HTTPException(404)
        return PlainTextResponse(NONE_YET, 404, headers=NEVER_KEPT | {"Retry-After": "1"})

    return Route("/media/previews/{file}", preview)
