"""The folders that a client on stdio declares as its roots (roots/list), such as a project that is open in an editor.

The program declares them, not the model that calls tools. They are asked for once, when a call first names a file by
its path. The protocol of 2026-07-28 has no such request any more, and HTTP without sessions has no way to a client.
"""

import logging
from pathlib import Path
from typing import Any

import anyio
from mcp import MCPError
from mcp.types import ListRootsRequest, ListRootsResult
from pydantic import ValidationError
from starlette.requests import Request as HttpRequest

from wan_mcp.errors import BadImage
from wan_mcp.media.sources import path_of_file_uri, scheme_of
from wan_mcp.schema.requests import Request
from wan_mcp.settings import user_folder

__all__ = ["ClientRoots", "folders_of"]

log = logging.getLogger(__name__)

ANSWER_S = 3.0
MOST = 20


class ClientRoots:
    """What asks the client of one process for its roots."""

    def __init__(self) -> None:
        self._asking = anyio.Lock()
        self._asked = False
        self._folders: tuple[Path, ...] = ()

    async def of_call(self, ctx: Any, request: Request) -> tuple[Path, ...]:
        """Return the client's folders if a call names a file by its path."""
        images = (getattr(request, name, None) for name in ("image", "last_image"))
        if not any(image and scheme_of(image) in ("", "file") for image in images):
            return ()
        async with self._asking:  # a call meanwhile needs the answer, too
            if not self._asked:
                self._folders = await self._ask(ctx)
            return self._folders

    async def _ask(self, ctx: Any) -> tuple[Path, ...]:
        session = ctx.session
        about = session.client_capabilities
        if isinstance(ctx.request_context.request, HttpRequest) or about is None or about.roots is None:
            return ()
        self._asked = True
        if not session.can_send_request:
            return ()
        try:
            with anyio.fail_after(ANSWER_S):
                found = await session.send_request(ListRootsRequest(), ListRootsResult)
        except (TimeoutError, MCPError, ValidationError) as error:
            log.info("the client has not said which folders it has open: %s", error)
            return ()
        return folders_of(str(root.uri) for root in found.roots[:MOST])


def folders_of(uris: Any) -> tuple[Path, ...]:
    """Return the folders that are named by file URIs.

    One that holds the user's home is left out: it would open everything, and a program without a project names it.
    """
    home = user_folder()
    folders = []
    for uri in uris:
        try:
            if scheme_of(uri) != "file" or not (path := Path(path_of_file_uri(uri))).is_absolute():
                continue
            folder = path.resolve()
            if folder.is_dir() and folder != Path("/") and not (home and home.resolve().is_relative_to(folder)):
                folders.append(folder)
        except (BadImage, OSError, ValueError, RuntimeError):
            continue
    return tuple(folders)
