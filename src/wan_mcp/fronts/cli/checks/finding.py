"""The result of one check."""

from dataclasses import dataclass

__all__ = ["Finding"]


@dataclass(frozen=True)
class Finding:
    """What was checked and what was found; if it is not good, also what to do."""

    what: str
    says: str
    good: bool = True
