"""An actor as the dispatcher calls it: with answers that are waited for as long as its lease lasts."""

import asyncio
import time
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, ObjectStoreFullError, OutOfDiskError

from wan_mcp.cluster.messages import FileHere
from wan_mcp.cluster.pieces import INLINE_BYTES, PIECE_BYTES, read_piece

__all__ = ["RemoteActor", "Unheard", "Unreadable"]

RETRY_S = 0.5
STORE_FULL = (ObjectStoreFullError, OutOfDiskError)
"""What Ray raises where a piece has no room in an object store; one of INLINE_BYTES needs none."""


class Unheard(Exception):
    """An actor has not answered for as long as its lease: it has ended, or is about to."""


class Unreadable(Exception):
    """A file of this machine that a job needs cannot be read."""


class RemoteActor:
    """An actor."""

    def __init__(self, handle: Any, lease_s: float) -> None:
        """Call the actor of `handle`, whose lease begins with each of its answers."""
        self._handle, self._lease_s = handle, lease_s
        self._seen = 0
        self._heard = time.monotonic()

    @property
    def leased_until(self) -> float:
        """When the lease is over (monotonic), if there is no further answer."""
        return self._heard + self._lease_s

    def renew(self) -> None:
        """Begin the lease again: the actor is not there yet."""
        self._heard = time.monotonic()

    async def call(self, what: str, *values: Any) -> Any:
        """Call a method of `EngineActor`, again and again while the actor cannot be reached.

        Raises:
            Unheard: the lease is over.
            RayError: the actor has died, or what it did has failed.
        """
        while True:
            left = self.leased_until - time.monotonic()
            if left <= 0:
                raise Unheard
            try:
                answer = self._handle.call.remote(self._seen, what, *values)
                async with asyncio.timeout(left):  # wait_for of Python 3.11 can swallow a cancellation
                    number, result = await asyncio.wrap_future(answer.future())
            except TimeoutError:
                raise Unheard from None
            except ActorUnavailableError:
                await asyncio.sleep(min(RETRY_S, left))
                continue
            self._seen, self._heard = max(self._seen, number), time.monotonic()
            return result

    async def read(self, file: FileHere, offset: int) -> bytes:
        """Return the piece of a file that begins at `offset`.

        Raises:
            Unheard, RayError: as `call`.
        """
        try:
            piece = await self.call("read", file.place, offset, PIECE_BYTES)
        except STORE_FULL:
            piece = await self.call("read", file.place, offset, INLINE_BYTES)
        return bytes(piece)

    async def write(self, file: FileHere, offset: int, source: Path) -> int:
        """Send the piece of `source` that begins at `offset`, and return its size; `file` is its name there.

        Raises:
            Unreadable: it cannot be read, or is shorter than announced.
            Unheard, RayError: as `call`.
        """
        try:
            piece = read_piece(source, offset, PIECE_BYTES)
        except OSError as error:
            raise Unreadable(f"{error.strerror}: {source}") from error
        if not piece and file.bytes:
            raise Unreadable(f"it has become shorter: {source}")
        try:
            await self.call("put", file.model_dump_json(), offset, piece)
        except STORE_FULL:
            piece = piece[:INLINE_BYTES]
            await self.call("put", file.model_dump_json(), offset, piece)
        return len(piece)

    def end(self) -> None:
        """End the actor at once."""
        ray.kill(self._handle, no_restart=True)
