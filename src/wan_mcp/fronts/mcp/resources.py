"""Results as MCP resources: media, whole or by byte range, jobs, and the gallery.

Clients crash on large messages instead of refusing them, so a read that is too large is refused
here, with the alternatives.
"""

import functools
import json
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from anyio.to_thread import run_sync
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp.server.mcpserver.resources import TextResource

from wan_mcp.errors import BadRequest, UnknownJob, UserError
from wan_mcp.fronts.mcp import icons
from wan_mcp.fronts.mcp.guides import GUIDES, guide
from wan_mcp.fronts.mcp.places import Places
from wan_mcp.fronts.mcp.results import result_file, structured
from wan_mcp.jobs.rows import JobListing
from wan_mcp.media.local_files import open_result
from wan_mcp.media.store import CONVERSIONS, MediaName
from wan_mcp.schema.enums import JobState, Kind
from wan_mcp.schema.jobs import Job
from wan_mcp.service.service import JobService
from wan_mcp.text import instant

__all__ = ["add_resources", "reading"]

GALLERY_JOBS = 30
_reader: ContextVar[Places] = ContextVar("_reader")
"""How the client of the current read reaches files. The SDK passes no context to a resource without parameters."""

P = ParamSpec("P")
T = TypeVar("T")


@contextmanager
def reading(places: Places) -> Iterator[None]:
    """Read resources for a client that reaches files by `places`, for the duration of the block."""
    token = _reader.set(places)
    try:
        yield
    finally:
        _reader.reset(token)


def add_resources(server: MCPServer[Any], service: JobService) -> None:
    """Add the resources of `service` to `server`."""
    most = service.settings.resource_max_kb * 1024

    @server.resource(
        "wan://videos/{id}.mp4{?offset,length}", title="Video", mime_type="video/mp4",
        description="A video. Read large ones in byte ranges, with offset and length.",
    )  # fmt: skip
    @_errors_in_words
    async def video(id: str, offset: str = "", length: str = "") -> bytes:
        return await _media(MediaName(Kind.VIDEO, id), offset, length)

    @server.resource(
        "wan://images/{id}.png{?offset,length}", title="Image", mime_type="image/png",
        description="An image. Read large ones in byte ranges, with offset and length.",
    )  # fmt: skip
    @_errors_in_words
    async def image(id: str, offset: str = "", length: str = "") -> bytes:
        return await _media(MediaName(Kind.IMAGE, id), offset, length)

    async def _media(name: MediaName, offset: str, length: str) -> bytes:
        return await _file(name.uri, offset, length)

    async def _file(address: str, offset: str = "", length: str = "") -> bytes:
        try:
            path, _ = await service.conversions.find(address)
        except BadRequest as error:
            raise ResourceNotFoundError(f"no result {address[:100]}; wan://gallery lists the newest") from error
        return await run_sync(_read, path, address, offset, length, most, _reader.get().best(path))

    def add_conversion(kind: Kind, ending: str, media_type: str) -> None:
        @server.resource(
            f"wan://{kind}s/{{id}}{ending}{{?offset,length}}",
            title=f"{kind.capitalize()} as {ending[1:]}",
            mime_type=media_type,
            description="Made of the result when it is first read.",
        )
        @_errors_in_words
        async def conversion(id: str, offset: str = "", length: str = "") -> bytes:
            return await _file(f"wan://{kind}s/{id}{ending}", offset, length)

    for kind, endings in CONVERSIONS.items():
        for ending in sorted({*endings} - {".jpeg"}):
            add_conversion(kind, ending, endings[ending])

    @server.resource(
        "wan://videos/{id}.sheet.jpg", title="Contact sheet", mime_type="image/jpeg",
        description="Frames of a video in one small image.",
    )  # fmt: skip
    @_errors_in_words
    async def sheet(id: str) -> bytes:
        return await _file(f"wan://videos/{id}.sheet.jpg")

    @server.resource(
        "wan://videos/{id}.poster.jpg", title="Poster", mime_type="image/jpeg", description="A video's first frame.",
    )  # fmt: skip
    @_errors_in_words
    async def poster(id: str) -> bytes:
        return await _file(f"wan://videos/{id}.poster.jpg")

    @server.resource(
        "wan://jobs/{id}", title="Job", mime_type="application/json", description="The current state of a job."
    )
    @_errors_in_words
    async def job(id: str) -> str:
        view = await service.view(id)
        return (await run_sync(structured, service, view, _reader.get())).model_dump_json(indent=1)

    @server.resource(
        "wan://gallery", title="Gallery", mime_type="application/json", description="The newest results.",
        icons=[icons.LIST],
    )  # fmt: skip
    @_errors_in_words
    async def gallery() -> str:
        listed = await service.listed(JobState.SUCCEEDED, GALLERY_JOBS)
        return await run_sync(_gallery, listed, _reader.get())

    for name, about in GUIDES.items():
        page = TextResource(
            uri=f"wan://guides/{name}",
            name=name,
            title=guide(name).partition("\n")[0].removeprefix("# "),
            description=about,
            mime_type="text/markdown",
            text=guide(name),
            icons=[icons.CAPTION],
        )
        server.add_resource(page)


def _errors_in_words(read: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Return `read` with the errors that the SDK passes on to the client; others are defects, which it logs."""

    @functools.wraps(read)
    async def reading(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await read(*args, **kwargs)
        except UnknownJob as error:
            raise ResourceNotFoundError(str(error)) from error
        except UserError as error:
            raise ResourceError(str(error)) from error

    return reading


def _read(path: Path, uri: str, offset: str, length: str, most: int, place: str) -> bytes:
    """Return `length` bytes of a file from `offset`, or all the rest.

    Raises:
        BadRequest: The range is invalid, or longer than `most` bytes; the message says how to read the file.
    """
    start, wanted = _whole_number("offset", offset), _whole_number("length", length)
    try:
        with open_result(path) as file:
            size = os.fstat(file.fileno()).st_size
            begin = start or 0
            if begin > 0 and begin >= size:
                raise BadRequest(f"offset {begin} is past the end of {uri}, which has {size} bytes")
            count = size - begin if wanted is None else min(wanted, size - begin)
            if count > most:
                raise BadRequest(
                    f"{uri} has {size} bytes; one read returns at most {most}. "
                    f"Read it in pieces: {uri}?offset=0&length={most}, then offset={most} and so on; "
                    f"or open {place}"
                )
            file.seek(begin)
            return file.read(count)
    except FileNotFoundError as error:
        raise ResourceNotFoundError(f"no result {uri}; wan://gallery lists the newest") from error


def _whole_number(what: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise BadRequest(f"{what} must be a number of bytes, not '{text[:20]}'")
    return int(text)


def _gallery(listed: JobListing, places: Places) -> str:
    gallery: dict[str, Any] = {"results": [entry for job in listed.jobs for entry in _gallery_entries(job, places)]}
    if listed.unreadable:
        gallery["unreadable"] = {job.id: job.reason for job in listed.unreadable}
    return json.dumps(gallery, indent=1)


def _gallery_entries(job: Job, places: Places) -> list[dict[str, Any]]:
    plan, finished = job.plan, instant(job.finished_at)
    about = {"job_id": job.id, "model": plan.model, "prompt": plan.prompt_asked, "finished_at": finished}
    files = [result_file(artifact, places) for artifact in job.artifacts]
    return [about | file.model_dump(mode="json", exclude_none=True) for file in files]
