"""The HTTP servers that run on a home: each says in a file there where it listens, for as long as it lives."""

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wan_mcp.errors import WanError
from wan_mcp.files import atomic_file, writing_to
from wan_mcp.jobs.processes import Processes
from wan_mcp.parsing import parse_json

__all__ = ["announced", "running_page", "url_of"]

log = logging.getLogger(__name__)

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # where a server that listens on all addresses is reached from here


def url_of(address: str, port: int, scheme: str = "http") -> str:
    """Return the URL at which this machine reaches a server that listens on an address."""
    address = EVERYWHERE.get(address, address)
    return f"{scheme}://[{address}]:{port}" if ":" in address else f"{scheme}://{address}:{port}"


@contextmanager
def announced(home: Path, url: str, *, page: bool) -> Iterator[None]:
    """Say in the home that this process serves at `url`, with the page or without, until the block ends."""
    folder = home / "servers"
    file = folder / f"{os.getpid()}.json"
    about = {"url": url, "page": page, "process": Processes().identity()}
    try:
        with writing_to(folder), atomic_file(file, private=True) as fresh:
            fresh.write_text(json.dumps(about), encoding="utf-8")
    except (WanError, OSError) as error:  # the server works all the same
        log.warning("'wan-mcp studio' will not find this server: %s", error)
    try:
        yield
    finally:
        with suppress(OSError):
            file.unlink()


def running_page(home: Path) -> str | None:
    """Return the URL of a living server of this home that has the page; remove what dead ones have left."""
    processes, found = Processes(), None
    for file in sorted((home / "servers").glob("*.json")):
        try:
            about = parse_json(file.read_text(encoding="utf-8"))
            url, page, process = str(about["url"]), about["page"] is True, str(about["process"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if processes.lives(process):
            found = url if page else found
        elif processes.is_here(process):
            with suppress(OSError):
                file.unlink()
    return found
