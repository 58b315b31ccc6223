"""One side of a benchmark: what was measured of it."""

from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

__all__ = ["CAME", "OVER", "Side"]

OVER = "the time was over"
CAME = "another job came, which has the device now"
"""Why there are fewer results than asked for, if nothing went wrong."""


@dataclass
class Side:
    """The results that one side has made, in order, and what it says of itself."""

    seconds: list[float] = field(default_factory=list)
    """Of each result, from the prompt to the finished file."""
    files: list[Path] = field(default_factory=list)
    first_s: float | None = None
    """From nothing, with the start of the process and the load of the model, to the first file."""
    ended: str | None = None
    """Why there are fewer results than were asked for; None if there are all."""
    failed: bool = False
    """Whether it ended by an error."""
    process_bytes: int | None = None
    gpu_bytes: int | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    """What it says of how it ran."""

    @property
    def last_s(self) -> float:
        """The seconds of the last result; 0 if there is none."""
        return self.seconds[-1] if self.seconds else 0.0

    @property
    def warm_s(self) -> float | None:
        """The median seconds of a result with the model in memory; None while there is one at most."""
        warm = self.seconds[1:]
        return median(warm) if warm else None
