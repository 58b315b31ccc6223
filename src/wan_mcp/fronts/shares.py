"""Turns at something of which there is little, so that one owner cannot keep it from all others."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from wan_mcp.errors import QuotaReached

__all__ = ["Shares"]


class Shares:
    """Some turns at once, and of each owner a few; some more of each may wait."""

    def __init__(self, at_once: int, of_one: int, waiting: int) -> None:
        self._all, self._most, self._waiting = anyio.CapacityLimiter(at_once), of_one, waiting
        self._of_one: dict[str, anyio.CapacityLimiter] = {}
        self._here: Counter[str] = Counter()

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for a turn of `owner`, and have it until the block ends.

        Raises:
            QuotaReached: Too many wait for a turn of this owner.
        """
        if self._here[owner] >= self._most + self._waiting:
            raise QuotaReached(
                "too many pictures of one owner are arriving at once; send this one again when the others are here"
            )
        own = self._of_one.setdefault(owner, anyio.CapacityLimiter(self._most))
        self._here[owner] += 1
        try:
            async with own, self._all:
                yield
        finally:
            self._here[owner] -= 1
            if not self._here[owner]:
                del self._here[owner], self._of_one[owner]
