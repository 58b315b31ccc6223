"""Files of the media folder as answers over HTTP: in ranges, with an ETag, and from the folder only."""

import unicodedata
from pathlib import Path
from stat import S_ISREG
from urllib.parse import quote

import anyio
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles

__all__ = ["disposition", "media_answer"]

CONDITIONS = StaticFiles()  # for its check of If-None-Match and If-Modified-Since
MEDIA_HEADERS = {"Cache-Control": "private, max-age=86400", "X-Content-Type-Options": "nosniff"}


async def media_answer(request: Request, path: Path, media_type: str, name: str | None = None) -> Response | None:
    """Return the answer with a file, or None if there is none at `path`; players may request ranges of it.

    Who saves the file gets it under `name`. It is shown by browsers, or with `?download=1` saved at once.
    """
    try:
        status = await anyio.Path(path).lstat()  # a link is not a result, wherever it leads
    except OSError:
        return None
    if not S_ISREG(status.st_mode):
        return None
    saved = request.query_params.get("download") in ("1", "true")
    headers = MEDIA_HEADERS | {
        "Content-Disposition": disposition(name or path.name, "attachment" if saved else "inline")
    }
    response = FileResponse(path, media_type=media_type, headers=headers, stat_result=status)
    if CONDITIONS.is_not_modified(response.headers, request.headers):
        return NotModifiedResponse(response.headers)
    return response


def disposition(name: str, how: str) -> str:
    """Return a Content-Disposition with a file's name: in ASCII, and in full for all clients of today (RFC 6266)."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = "".join(each if each.isalnum() or each in "._- " else "-" for each in plain).strip(" -.") or "file"
    return f"{how}; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
