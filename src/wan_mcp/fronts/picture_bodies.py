"""Pictures in the bodies of HTTP requests: the body itself, or the first file of a form, within bounds."""

from typing import Any

from anyio.to_thread import run_sync
from starlette.requests import Request

from wan_mcp.errors import BadImage
from wan_mcp.fronts.shares import Shares
from wan_mcp.text import in_bytes

__all__ = ["PictureBodies", "TooLarge"]

FORM_SPARE = 65_536  # bytes of a form around its picture
AT_ONCE, OF_ONE_OWNER, WAITING = 8, 2, 32  # bodies that are read; each is in memory, as large as a picture may be


class TooLarge(BadImage):
    """The body has more bytes than a picture may have."""


class PictureBodies:
    """Reads the pictures that requests carry: some at once, and of one owner a few."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._shares = Shares(AT_ONCE, OF_ONE_OWNER, WAITING)

    async def read(self, request: Request, owner: str) -> bytes:
        """Return the bytes of the picture that a request carries for `owner`.

        Raises:
            TooLarge: They are more than `max_bytes`.
            BadImage: There is none, or the form cannot be read.
            QuotaReached: Too many of this owner's arrive at once.
        """
        async with self._shares.turn(owner):
            return await _picture_of(request, self.max_bytes)


async def _picture_of(request: Request, max_bytes: int) -> bytes:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    is_form = kind == "multipart/form-data"
    most = max_bytes + (FORM_SPARE if is_form else 0)
    too_large = TooLarge(f"the picture is too large; the limit is {in_bytes(max_bytes)}")
    declared = request.headers.get("content-length", "0")
    if declared.isdigit() and int(declared) > most:
        raise too_large
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > most:
            raise too_large
        chunks.append(chunk)
    body = b"".join(chunks)
    data = await run_sync(_file_in_form, request.headers["content-type"], body) if is_form else body
    if not data:
        raise BadImage("there is no picture in the request; send it as the body, or as a file in a form")
    if len(data) > max_bytes:
        raise too_large
    return data


def _file_in_form(content_type: str, body: bytes) -> bytes:
    """Return the first file in a form; empty if there is none.

    Raises:
        BadImage: The form cannot be read.
    """
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import FormParser, parse_options_header

    files: list[bytes] = []

    def on_file(file: Any) -> None:
        file.file_object.seek(0)
        files.append(file.file_object.read())

    _, options = parse_options_header(content_type)
    try:
        parser = FormParser(
            "multipart/form-data", lambda field: None, on_file, boundary=options.get(b"boundary"),
            config={"MAX_MEMORY_FILE_SIZE": len(body) + 1, "MAX_BODY_SIZE": len(body) + 1},
        )  # fmt: skip
        parser.write(body)
        parser.finalize()
    except (FormParserError, ValueError, KeyError, TypeError) as error:
        raise BadImage("the form cannot be read; send it as multipart/form-data") from error
    return files[0] if files else b""
