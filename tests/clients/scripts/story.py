"""What every client goes through, whichever library it is made of; tells it as one JSON document.

Runs in the client's own environment: standard library only. A `with_….py` beside it says how its
library connects, calls and reads, and hands that to `main`.
"""

import asyncio
import base64
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Protocol

from session import session

Json = dict[str, Any]
OnProgress = Callable[[float, "float | None", "str | None"], Awaitable[None]]

VIDEO = {"prompt": "a red circle moves to the right on a white background", "num_frames": 9, "steps": 4, "seed": 11}
LONG_VIDEO = {"prompt": "a large blue star spins on a black background", "num_frames": 9, "steps": 30, "seed": 12}
IMAGE = {"prompt": "a green square on a black background", "steps": 4, "seed": 13}
PIECES = 2
WAIT_S = 240  # for a job that is going to end, on a busy machine


class Client(Protocol):
    """A connected client of some library."""

    async def tools(self) -> list[Json]:
        """The tools, as on the wire."""

    async def call(self, name: str, arguments: Json, on_progress: OnProgress) -> Json:
        """Call a tool; an answer as `answer_of` makes it."""

    async def read(self, uri: str) -> "tuple[str | None, bytes]":
        """MIME type and content of a resource."""


Connect = Callable[[Json], AbstractAsyncContextManager[Client]]


def answer_of(result: Json) -> Json:
    """A tool's result on the wire, sorted by what a client is looking for."""
    blocks: list[Json] = result["content"]
    return {
        "is_error": bool(result.get("isError")),
        "structured": result.get("structuredContent"),
        "text": "\n".join(block["text"] for block in blocks if block["type"] == "text"),
        "links": [
            {"uri": str(block["uri"]), "mime_type": block["mimeType"]}
            for block in blocks
            if block["type"] == "resource_link"
        ],
        "pictures": [
            {"data": block["data"], "mime_type": block["mimeType"]} for block in blocks if block["type"] == "image"
        ],
    }


def main(connect: Connect, library: str) -> None:
    """Do what the first argument says (JSON) and print what happened."""
    task: Json = json.loads(sys.argv[1])
    document = asyncio.run(_do(connect, task))
    sys.stdout.write(json.dumps({"library": library, **document}))


async def _do(connect: Connect, task: Json) -> Json:
    began = time.monotonic()
    async with connect(task["server"]) as client:
        connected = time.monotonic() - began
        match task["do"]:
            case "story":
                return {"connected_s": connected, **await _story(client, task["short_wait_s"])}
            case "session":
                call, read = partial(_call, client), partial(_read, client)
                return {"tools": await client.tools(), **await session(call, read)}
            case "calls":
                return {"answers": [await _call(client, name, **arguments) for name, arguments in task["calls"]]}
            case "abandon":
                await _abandon(client, **task["arguments"])
    raise ValueError(task["do"])


async def _story(client: Client, short_wait_s: float) -> Json:
    document: Json = {"tools": await client.tools()}
    document["video"] = video = await _call(client, "generate_video", **VIDEO, wait_s=WAIT_S)
    artifact = video["structured"]["artifacts"][0]
    document["whole"] = await _read(client, artifact["uri"])
    document["pieces"] = await _read_in_pieces(client, artifact["uri"], artifact["bytes"])
    document["started"] = started = await _call(client, "generate_video", **LONG_VIDEO, wait_s=short_wait_s)
    document["finished"] = await _call(client, "get_job", job_id=started["structured"]["job_id"], wait_s=WAIT_S)
    document["image"] = image = await _call(client, "generate_image", **IMAGE, wait_s=WAIT_S)
    uri = image["structured"]["artifacts"][0]["uri"]
    document["still"] = await _read(client, uri)
    document["caption"] = await _call(client, "caption_image", image=uri, wait_s=WAIT_S)
    document["bad_value"] = await _call(client, "generate_video", **{**VIDEO, "steps": 9999})
    document["bad_name"] = await _call(client, "generate_video", **VIDEO, frames=9)
    document["unknown_job"] = await _call(client, "get_job", job_id="nosuchjob")
    document["unknown_media"] = await _read(client, "wan://videos/nosuchvideo.mp4")
    document["job"] = await _read(client, f"wan://jobs/{started['structured']['job_id']}")
    document["gallery"] = await _read(client, "wan://gallery")
    return document


async def _call(client: Client, tool: str, **arguments: Any) -> Json:
    progress: list[list[Any]] = []

    async def on_progress(value: float, total: "float | None", message: "str | None") -> None:
        progress.append([value, total, message])

    began = time.monotonic()
    answer = await client.call(tool, arguments, on_progress)
    return {"tool": tool, "seconds": time.monotonic() - began, "progress": progress, **answer}


async def _read(client: Client, uri: str) -> Json:
    try:
        mime_type, content = await client.read(uri)
    except Exception as error:  # whatever the library makes of a refusal is what its users see
        return {"uri": uri, "error": "; ".join(_words(error))}
    text = content.decode() if mime_type == "application/json" else None
    return {"uri": uri, "mime_type": mime_type, "sha256": hashlib.sha256(content).hexdigest(), "text": text}


async def _read_in_pieces(client: Client, uri: str, size: int) -> Json:
    length = -(-size // PIECES)
    pieces = [(await client.read(f"{uri}?offset={offset}&length={length}"))[1] for offset in range(0, size, length)]
    return {"sizes": [len(piece) for piece in pieces], "sha256": hashlib.sha256(b"".join(pieces)).hexdigest()}


async def _abandon(client: Client, **arguments: Any) -> None:
    """Die in the middle of a call, once the job is really under way."""

    async def on_progress(value: float, total: "float | None", message: "str | None") -> None:
        if value > 0:
            sys.stdout.write(json.dumps({"died_at": [value, total, message]}))
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)

    await client.call("generate_video", arguments, on_progress)
    raise RuntimeError("the job was done before any progress was seen")


def _words(error: BaseException) -> list[str]:
    if isinstance(error, BaseExceptionGroup):
        return [word for inner in error.exceptions for word in _words(inner)]
    return [str(error), *(_words(error.__cause__) if error.__cause__ else [])]


def decoded(blob: str) -> bytes:
    """The bytes of a blob on the wire."""
    return base64.b64decode(blob, validate=True)
