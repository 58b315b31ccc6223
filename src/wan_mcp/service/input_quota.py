"""How many pictures an owner may send within a day: what one owner sends must not fill the disk of all.

The count is one front's and begins with it. The home's own user is not counted: the disk is that user's.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import ParamSpec

from wan_mcp.errors import QuotaReached
from wan_mcp.schema.plans import InputImage
from wan_mcp.service.owners import HOME_USER, owner_now
from wan_mcp.text import in_bytes

__all__ = ["InputQuota"]

DAY_S = 86_400.0
"""As long as a picture is kept that no job has."""
MOST_BYTES = 2_000_000_000
MOST_PICTURES = 2_000

Asked = ParamSpec("Asked")


@dataclass(frozen=True)
class _Kept:
    at: float
    bytes: int


class InputQuota:
    """What each owner has sent within a day. Safe in several threads."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._home, self._clock = home, clock
        self._lock = Lock()
        self._kept: dict[str, dict[str, _Kept]] = {}
        """By owner, and by the picture's hash: the same picture is kept once."""

    def counted(self, take: Callable[Asked, InputImage]) -> Callable[Asked, InputImage]:
        """Return what takes a picture in as `take` does, and raises `QuotaReached` once the caller has sent enough."""

        def counting(*args: Asked.args, **kwargs: Asked.kwargs) -> InputImage:
            if (owner := owner_now()) == HOME_USER:
                return take(*args, **kwargs)
            self._require_room(owner)
            image = take(*args, **kwargs)
            size = (self._home / image.file).stat().st_size
            with self._lock:
                self._kept.setdefault(owner, {})[image.sha256] = _Kept(self._clock(), size)
            return image

        return counting

    def _require_room(self, owner: str) -> None:
        oldest = self._clock() - DAY_S
        with self._lock:
            kept = {sha256: each for sha256, each in self._kept.get(owner, {}).items() if each.at > oldest}
            self._kept[owner] = kept
        if len(kept) >= MOST_PICTURES or sum(each.bytes for each in kept.values()) >= MOST_BYTES:
            raise QuotaReached(
                f"you have sent {len(kept)} pictures within a day; an owner may send {MOST_PICTURES} or "
                f"{in_bytes(MOST_BYTES)}, as they are kept here. Name an upload of yours again, or try later"
            )
