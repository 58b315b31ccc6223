"""Text formats for sizes, durations, instants and other libraries' errors; each has one format, used everywhere."""

from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from rich.filesize import decimal

__all__ = ["duration", "first_line", "in_bytes", "instant", "last_line", "shortened", "time_left"]

LINE_LENGTH = 300  # characters of a line that another program or library wrote


def in_bytes(count: float) -> str:
    """Return a number of bytes in words, e.g. `12.3 GB`; a GB is 10⁹ bytes."""
    return decimal(round(count))


def duration(seconds: float, *, precise: bool = True) -> str:
    """Return seconds in words; not `precise` for an estimate, which tenths would overstate."""
    if seconds < 10 and precise:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def time_left(eta_s: float | None) -> str:
    """Return `, about 12 s left`; an empty text where there is no estimate."""
    return "" if eta_s is None else f", about {duration(max(1.0, eta_s), precise=False)} left"


def instant(seconds: float | None) -> str | None:
    """Return a Unix time as ISO 8601 in UTC."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def first_line(error: BaseException) -> str:
    """Return an error's class and the first line of its message, cut to `LINE_LENGTH`."""
    line = next(_filled(str(error).splitlines()), None)
    return type(error).__name__ if line is None else f"{type(error).__name__}: {line}"


def last_line(printed: Iterable[str]) -> str | None:
    """Return the last line that a program printed, which says why it ended; None if it printed none."""
    return next(iter(deque(_filled(printed), maxlen=1)), None)


def _filled(lines: Iterable[str]) -> Iterator[str]:
    return (line.strip()[:LINE_LENGTH] for line in lines if line.strip())


def shortened(text: str, longest: int) -> str:
    """Return a text of at most `longest` characters; one that was cut ends with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"
