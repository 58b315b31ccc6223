"""Pictures sent on their own over HTTP: by a client that has the token, or by a person with a link for one picture.

`POST /media/inputs` takes a picture. `POST /media/upload-links` makes a link; its page, below `/upload/`, needs no
token.
"""

import logging
from typing import Any

import anyio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Scope

from wan_mcp.errors import OutOfSpace, QuotaReached, UserError
from wan_mcp.fronts.discretion import discreet, is_near
from wan_mcp.fronts.http.upload_page import upload_page
from wan_mcp.fronts.picture_bodies import PictureBodies, TooLarge
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.service.owners import owner_now
from wan_mcp.service.service import JobService
from wan_mcp.service.uploads import LINKS
from wan_mcp.text import as_sentence, in_bytes, instant

__all__ = ["is_upload_link", "upload_routes"]

log = logging.getLogger(__name__)

READ_S = 300.0
ENDED = "This link has ended"
ENDED_WORDS = "It was used, or is too old. Ask for another one in your chat."
NO_STORE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}


def is_upload_link(scope: Scope) -> bool:
    """Check whether a request is for the page of an upload link, which is open to everybody who knows its secret."""
    return scope["type"] == "http" and scope["path"].startswith(LINKS) and scope["method"] in ("GET", "HEAD", "POST")


def upload_routes(service: JobService) -> list[Route]:
    """Return the routes of uploads."""
    uploads = _Uploads(service)
    return [
        Route("/media/inputs", uploads.take, methods=["POST"]),
        Route("/media/upload-links", uploads.offer, methods=["POST"]),
        Route(LINKS + "{secret}", uploads.page, methods=["GET"]),
        Route(LINKS + "{secret}", uploads.take_by_link, methods=["POST"]),
    ]


class _Uploads:
    def __init__(self, service: JobService) -> None:
        self._service = service
        self._bodies = PictureBodies(int(service.settings.image_max_mb * 1e6))

    async def take(self, request: Request) -> Response:
        """Take a picture: the body itself, or the first file of a form; or a frame of a video, by `?frame=`."""
        try:
            frame = CaptionRequest.of({"image": "-", "frame": request.query_params.get("frame")}).frame
            data = await self._bodies.read(request, owner_now())
            sent = await self._service.pictures.receive(data, owner_now(), frame)
        except UserError as error:
            return self._refused(request, error)
        except ClientDisconnect:
            return Response(status_code=400)
        facts: dict[str, Any] = {
            "image": sent.address,
            "width": sent.image.width,
            "height": sent.image.height,
            "notes": sent.notes,
            "expires_at": instant(sent.expires_at),
        }
        return JSONResponse(facts, 201, NO_STORE)

    async def offer(self, request: Request) -> Response:
        """Make a link by which a person may send one picture."""
        try:
            link = await self._service.pictures.offer(owner_now())
        except UserError as error:
            return self._refused(request, error)
        url = str(request.base_url).rstrip("/") + link.path
        facts = {"link": url, "image": link.address, "expires_at": instant(link.expires_at)}
        return JSONResponse(facts, 201, NO_STORE)

    def _refused(self, request: Request, error: UserError) -> JSONResponse:
        statuses = {TooLarge: 413, QuotaReached: 429, OutOfSpace: 507}
        status = next((status for kind, status in statuses.items() if isinstance(error, kind)), 400)
        words = str(error) if is_near(request.scope) else discreet(str(error), self._service.settings.home)
        return JSONResponse({"error": words, "code": error.code}, status, NO_STORE)

    async def page(self, request: Request) -> Response:
        """Show the page of a link. To look at it does not use it up: programs that show previews of links look too."""
        if not await self._service.pictures.is_open(request.path_params["secret"]):
            return upload_page(ENDED, ENDED_WORDS, status=404)
        return self._form()

    def _form(self, problem: str = "", status: int = 200) -> Response:
        return upload_page("Send a picture", problem, status=status, limit=in_bytes(self._bodies.max_bytes))

    async def take_by_link(self, request: Request) -> Response:
        """Take the picture that a person sends by a link."""

        async def read(owner: str) -> bytes:
            with anyio.fail_after(READ_S):
                return await self._bodies.read(request, owner)

        try:
            received = await self._service.pictures.receive_by_link(request.path_params["secret"], read)
        except TimeoutError:
            return self._form(f"The picture did not arrive within {READ_S / 60:g} minutes.", 408)
        except TooLarge as error:
            return self._form(as_sentence(error), 413)
        except QuotaReached as error:
            return self._form(as_sentence(error), 429)
        except UserError as error:
            log.info("a picture sent by a link was refused: %s", error)
            return self._form(as_sentence(discreet(str(error), self._service.settings.home)), 400)
        except ClientDisconnect:
            return Response(status_code=400)
        if received is None:
            return upload_page(ENDED, ENDED_WORDS, status=404)
        image, notes = received
        words = f"It has {image.width}x{image.height} pixels. Go back to your chat and say that it is sent."
        return upload_page("The picture has arrived", " ".join([words, *(as_sentence(note) for note in notes)]))
