"""On what terms a call makes something."""

from dataclasses import dataclass
from typing import Self

__all__ = ["Terms"]


@dataclass(frozen=True)
class Terms:
    """What a caller allows and wants in addition to the request."""

    download: bool = False
    """True if the model may be downloaded, however large it is."""
    dry_run: bool = False
    """True if the call is only estimated."""

    @classmethod
    def of(cls, download: bool | None, dry_run: bool | None) -> Self:
        """Return the terms of a call; left out means no."""
        return cls(bool(download), bool(dry_run))
