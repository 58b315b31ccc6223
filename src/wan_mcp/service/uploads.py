"""Pictures that clients send on their own: kept like all input images, and named by an address of their owner's.

The address can be passed as `image`. Nobody else can use it: it is looked up together with the owner.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from anyio.to_thread import run_sync

from wan_mcp.errors import BadImage, about
from wan_mcp.jobs.uploads import LINK_S, Upload, Uploads
from wan_mcp.schema.plans import InputImage
from wan_mcp.schema.requests import Request
from wan_mcp.service.admission import Admission, frame_of
from wan_mcp.service.owners import acting_for

__all__ = ["LINKS", "LINK_MINUTES", "SentPicture", "SentPictures", "UploadLink"]

ADDRESS = re.compile(r"\s*wan://uploads/([0-9a-f]{32})\s*", re.IGNORECASE)
LIKE_ADDRESS = re.compile(r"\s*wan://uploads/", re.IGNORECASE)
LINKS = "/upload/"
"""Below this path HTTP servers have the pages of links."""
LINK_MINUTES = round(LINK_S / 60)


@dataclass(frozen=True)
class SentPicture:
    """A picture that has arrived."""

    address: str
    """What a caller passes as `image`."""
    image: InputImage
    notes: list[str]
    """What of it was left out or converted."""
    expires_at: float


@dataclass(frozen=True)
class UploadLink:
    """A link by which one picture may be sent."""

    address: str
    """What a caller passes as `image` when the picture has been sent."""
    secret: str
    expires_at: float

    @property
    def path(self) -> str:
        """The path of its page."""
        return LINKS + self.secret


class SentPictures:
    """The pictures that were sent to one home."""

    def __init__(self, admission: Admission, uploads: Callable[[], Awaitable[Uploads]]) -> None:
        self._admission, self._uploads = admission, uploads

    async def receive(self, data: bytes, owner: str, frame: str | None = None) -> SentPicture:
        """Keep a picture, or a frame of a video, that was sent by its owner.

        Raises:
            BadImage: It is not one, or too large; the message says which.
            OutOfSpace: The disk is full.
        """
        notes: list[str] = []
        image = await self._admission.ingest(data, notes, frame)
        upload = await run_sync((await self._uploads()).add, owner, image.sha256)
        return SentPicture(_address(upload), image, notes, upload.expires_at)

    async def offer(self, owner: str) -> UploadLink:
        """Make a link by which a person may send one picture for `owner`."""
        upload, secret = await run_sync((await self._uploads()).offer, owner)
        return UploadLink(_address(upload), secret, upload.expires_at)

    async def is_open(self, secret: str) -> bool:
        """Check whether a picture may be sent by a link."""
        return await run_sync((await self._uploads()).is_open, secret)

    async def receive_by_link(
        self, secret: str, read: Callable[[str], Awaitable[bytes]]
    ) -> tuple[InputImage, list[str]] | None:
        """Keep the picture that `read` returns, sent by a link; return it with notes, None if the link has ended.

        `read` is called with the owner of the link, in whose name the picture is kept.

        Raises:
            BadImage: It is not one, or too large; it may be tried again with another.
            OutOfSpace: The disk is full.
        """
        uploads = await self._uploads()
        owner = await run_sync(uploads.begin, secret)
        if owner is None:
            return None
        notes: list[str] = []
        data = await read(owner)
        with acting_for(owner):
            image = await self._admission.ingest(data, notes)
        return (image, notes) if await run_sync(uploads.fill, secret, image.sha256) else None

    async def named_in(self, request: Request, owner: str) -> dict[str, InputImage]:
        """Return the pictures that a request of `owner` names by their addresses, by these.

        Raises:
            BadImage: There is no such picture of the owner's, or it has not been sent yet.
        """
        images: dict[str, InputImage] = {}
        for parameter in ("image", "last_image"):
            source: str | None = getattr(request, parameter, None)
            if not source or LIKE_ADDRESS.match(source) is None:
                continue
            with about(parameter):
                images[source] = await self._found(source, owner)
            with about(frame_of(parameter)):
                if getattr(request, frame_of(parameter), None) is not None:
                    raise BadImage(f"an upload is an image; omit {frame_of(parameter)}")
        return images

    async def _found(self, source: str, owner: str) -> InputImage:
        match = ADDRESS.fullmatch(source)
        upload = await run_sync((await self._uploads()).find, match[1].lower(), owner) if match else None
        if upload is None:
            raise BadImage(f"no upload {source.strip()[:60]}; it may be too old: send the picture again")
        if upload.sha256 is None:
            raise BadImage("the picture has not been sent yet; ask the user to open the upload link, then call again")
        return await self._admission.ingested(upload.sha256)


def _address(upload: Upload) -> str:
    return f"wan://uploads/{upload.id}"
