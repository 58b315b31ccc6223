"""The live preview of a running job at /media/previews/ID.jpg. Each request counts as a look at the job."""

import re

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from wan_mcp.errors import UnknownJob
from wan_mcp.service.previews import live_preview
from wan_mcp.service.service import JobService

__all__ = ["preview_route"]

FILE = re.compile(r"(?P<id>[0-9a-z]{20})\.jpg")
NEVER_KEPT = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def preview_route(service: JobService) -> Route:
    """Return the route of the live previews; it stands before the route of all media."""

    async def preview(request: Request) -> Response:
        """Serve the newest preview of a job that is denoised; 204 while there is none yet, 404 after the job's end.

        One is made at the end of a denoising step while somebody looks, so asking again helps: that is no error.
        """
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
        return Response(status_code=204, headers=NEVER_KEPT | {"Retry-After": "1"})

    return Route("/media/previews/{file}", preview)
