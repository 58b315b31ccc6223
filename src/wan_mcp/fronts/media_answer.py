"""Files of the media folder as answers over HTTP: in ranges, with an ETag, and from the folder only."""

from pathlib import Path
from stat import S_ISREG

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles

__all__ = ["media_answer"]

CONDITIONS = StaticFiles()  # for its check of If-None-Match and If-Modified-Since
MEDIA_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


async def media_answer(request: Request, path: Path, media_type: str) -> Response | None:
    """Return the answer with a file, or None if there is none at `path`; players may request ranges of it."""
    try:
        status = await anyio.Path(path).lstat()  # a link is not a result, wherever it leads
    except OSError:
        return None
    if not S_ISREG(status.st_mode):
        return None
    response = FileResponse(path, media_type=media_type, headers=MEDIA_HEADERS, stat_result=status)
    if CONDITIONS.is_not_modified(response.headers, request.headers):
        return NotModifiedResponse(response.headers)
    return response
