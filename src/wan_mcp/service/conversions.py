"""Results in other formats, made when somebody first asks for one and kept next to the result.

A conversion takes a CPU for seconds, so a front makes one at a time. Deleting a job removes what was made of it.
"""

from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from anyio.to_thread import run_sync

from wan_mcp.media.content_credentials import ContentCredentials
from wan_mcp.media.conversion import convert
from wan_mcp.media.store import MediaName, MediaStore, whole

__all__ = ["Conversions"]


class Conversions:
    """What makes the files of a media folder that are conversions of others."""

    def __init__(
        self,
        media: MediaStore,
        require_own: Callable[[MediaName], Awaitable[None]],
        credentials: ContentCredentials | None = None,
    ) -> None:
        """Make them for those whom `require_own` lets pass: it refuses with `BadRequest` what is not the caller's.

        They are signed with `credentials`, if there are any.
        """
        self._media, self._require_own, self._credentials = media, require_own, credentials
        self._one_by_one = anyio.CapacityLimiter(1)

    async def find(self, address: str) -> tuple[Path, str]:
        """Return the path and the media type of a wan:// address; a conversion is made if it is not there.

        Nothing is at the path of a result that does not exist.

        Raises:
            BadRequest: it is not the address of a result of the caller.
            UserError: the result cannot be converted; the message says why.
            OutOfSpace: the disk is full.
        """
        path, media_type = self._media.find(address)
        await self._require_own(self._media.name_of(path))
        result = self._media.result_of(path)
        if result is not None and not path.exists():
            await run_sync(self._make, result, path, limiter=self._one_by_one)
        return path, media_type

    def _make(self, result: Path, target: Path) -> None:
        if target.exists() or not result.is_file():  # who came before has made it, or there is nothing to convert
            return
        with whole(target) as part:
            convert(result, part, target.suffix, self._credentials)
        if not result.is_file():  # deleted meanwhile, with what was next to it then
            target.unlink(missing_ok=True)
