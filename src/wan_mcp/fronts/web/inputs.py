"""Pictures that the page sends: bounded, ingested like those of every other front, and known by their hash."""

from collections.abc import Mapping
from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from wan_mcp.errors import BadImage
from wan_mcp.fronts.discretion import is_near
from wan_mcp.fronts.picture_bodies import PictureBodies, TooLarge
from wan_mcp.fronts.web.answers import Answers, Refusal
from wan_mcp.fronts.web.cards import input_url
from wan_mcp.fronts.web.input_ids import InputIds
from wan_mcp.fronts.web.shapes import Crop, InputAnswer
from wan_mcp.media.framing import cover
from wan_mcp.media.image_urls import is_url
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import CaptionRequest
from wan_mcp.service.elsewhere import may_be_named
from wan_mcp.service.owners import owner_now
from wan_mcp.service.service import JobService
from wan_mcp.text import as_sentence

__all__ = ["Inputs", "crop_of"]

MAX_SIDE = 16_384
PICTURES = ("image", "last_image")


def crop_of(picture: tuple[int, int], frame: tuple[int, int], what: str = "picture") -> Crop:
    """Return how a picture of this width and height fills a frame."""
    framing = cover(picture, frame)
    left, top, right, bottom = framing.box
    width, height = framing.scaled
    return Crop(
        width=frame[0],
        height=frame[1],
        left=left / width,
        top=top / height,
        right=right / width,
        bottom=bottom / height,
        words=framing.describe(what),
    )


class Inputs:
    """The endpoints of pictures, and what stands for a picture in a request."""

    def __init__(self, service: JobService, answers: Answers) -> None:
        self._service, self._answers = service, answers
        self._ids = InputIds(service.settings.http_token)
        self._bodies = PictureBodies(int(service.settings.image_max_mb * 1e6))

    async def upload(self, request: Request) -> Response:
        """Take a picture in: the body itself, or the first file of a form; or a frame of a video, by `?frame=`.

        With `?image=wan://…` it is a result, with `?image=https://…` one that is fetched, and there is no body.
        """
        query = request.query_params
        frame = _frame(query)
        notes: list[str] = []
        admission, of_video = self._service.admission, _frame_of_video(query)
        if address := query.get("image"):
            if not is_url(address) and not (address.startswith("wan:") and may_be_named(address)):
                raise BadImage("image must be the wan:// address of a result; send other pictures as the body")
            image = await admission.ingest_named(address, notes, of_video)
        else:
            image = await admission.ingest(await self._data(request), notes, of_video)
        crop = crop_of((image.width, image.height), frame) if frame else None
        id_ = self._ids.id_of(image.sha256, near=is_near(request.scope))
        answer = InputAnswer(id=id_, width=image.width, height=image.height, url=input_url(id_), notes=notes, crop=crop)
        return self._answers.json(request, answer, 201)

    async def _data(self, request: Request) -> bytes:
        try:
            return await self._bodies.read(request, owner_now())
        except TooLarge as error:
            raise Refusal(413, error.code, as_sentence(error)) from error

    async def show(self, request: Request) -> Response:
        """Serve a picture that was taken in; to a page elsewhere, one that it has sent."""
        sha256 = self._ids.hash_of(request.path_params["id"], near=is_near(request.scope))
        file = self._service.media.inputs / f"{sha256}.png"
        if sha256 is None or not await run_sync(file.is_file):
            raise Refusal(404, "bad_image", "There is no such picture here.")
        headers = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
        return FileResponse(file, media_type="image/png", headers=headers)

    async def named(self, request: Request, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, InputImage]]:
        """Return the parameters with the path of each picture that is named by its id, and those pictures by path.

        Raises:
            BadImage: There is no picture of that id.
        """
        parameters, images = dict(given), {}
        for name in PICTURES:
            if (sha256 := self._ids.hash_of(given.get(name), near=is_near(request.scope))) is not None:
                parameters[name] = str(self._service.media.inputs / f"{sha256}.png")
                images[parameters[name]] = await self._service.admission.ingested(sha256)
        return parameters, images


def _frame(query: Mapping[str, str]) -> tuple[int, int] | None:
    if "width" not in query and "height" not in query:
        return None
    sides = [query.get(name, "") for name in ("width", "height")]
    if not all(side.isdecimal() and len(side) < 6 and 0 < int(side) <= MAX_SIDE for side in sides):
        raise Refusal(400, "bad_request", f"Width and height must be 1 to {MAX_SIDE}, both of them.")
    return int(sides[0]), int(sides[1])


def _frame_of_video(query: Mapping[str, str]) -> str | None:
    """Return which frame of a video is wanted.

    Raises:
        BadRequest: It is none.
    """
    return CaptionRequest.of({"image": "-", "frame": query.get("frame")}).frame
