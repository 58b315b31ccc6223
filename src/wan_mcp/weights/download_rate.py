"""How fast the last large download was: the only ground for saying how long the next one takes."""

from contextlib import suppress
from pathlib import Path

from pydantic import Field, ValidationError

from wan_mcp.files import atomic_file
from wan_mcp.schema.enums import Frozen

__all__ = ["expected_seconds", "remember_rate"]

LEAST_BYTES = 50_000_000
"""Of a download that says something about the next: a smaller one mostly waits for answers."""


class _Rate(Frozen):
    """A download: its bytes and its seconds."""

    size: int = Field(gt=0)
    seconds: float = Field(gt=0)


def remember_rate(home: Path, size: int, seconds: float) -> None:
    """Remember a download of `size` bytes, unless it is too small to say anything."""
    if size < LEAST_BYTES or seconds <= 0:
        return
    with suppress(OSError), atomic_file(_place(home), private=True) as fresh:  # nothing depends on it
        fresh.write_text(_Rate(size=size, seconds=seconds).model_dump_json(), encoding="utf-8")


def expected_seconds(home: Path, size: int) -> float | None:
    """Return the seconds that a download of `size` bytes takes at the last rate; None if there was none."""
    try:
        last = _Rate.model_validate_json(_place(home).read_bytes())
    except (OSError, ValidationError):
        return None
    return size * last.seconds / last.size


def _place(home: Path) -> Path:
    return home / "weights" / "last_download.json"
