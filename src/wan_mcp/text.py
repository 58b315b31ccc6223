"""Text formats for sizes, durations, instants, refused values and other libraries' errors; each is used everywhere."""

import math
import re
import unicodedata
from collections import deque
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches

from rich.filesize import decimal

__all__ = [
    "as_sentence",
    "capitalized",
    "duration",
    "escaped",
    "first_line",
    "folded",
    "in_bytes",
    "instant",
    "last_line",
    "number",
    "one_line",
    "quoted",
    "shortened",
    "spelled",
    "suggestion",
    "time_left",
]

LINE_LENGTH = 300  # characters of a line that another program or library wrote
QUOTED_LENGTH = 60  # characters of a caller's value in an error; paths are shown longer
LINE_ENDS = re.compile("(?:\r\n|[\n\r\t\v\f\x1c-\x1e\x85\u2028\u2029])+")
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f"  # C0, among them ESC; DEL; C1
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # what changes the direction of writing
    "\u00ad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb"  # no width, or the end of a line
    "\ud800-\udfff\U000e0000-\U000e007f]"  # half surrogate pairs, which no terminal can be sent; tags
)
"""Characters that a reader cannot see and that a terminal, an editor or a model may obey.

The joiners U+200C and U+200D are not among them: emoji and several scripts need them.
"""
WHOLE = 10**21
"""Numbers below this are written digit by digit; Python writes larger floats with an exponent as well."""


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


def number(value: float) -> str:
    """Return a number with all its digits: `2147483648`, `0.1`, `5` for 5.0; one of 22 digits or more as `1e400`."""
    if isinstance(value, float):
        if not math.isfinite(value) or abs(value) >= WHOLE or not value.is_integer():
            return repr(value)
        value = int(value)
    if abs(value) < WHOLE:
        return str(value)
    # Python refuses to write integers of more than 4300 digits, and an error needs none of them.
    return f"{'-' if value < 0 else ''}1e{math.floor(math.log10(abs(value)))}"


def capitalized(text: object) -> str:
    """Return a text, such as an error, with a capital as its first letter; the rest stays as it is."""
    words = str(text)
    return words[:1].upper() + words[1:]


def as_sentence(text: object) -> str:
    """Return a text without a full stop, such as an error, as a sentence."""
    return f"{capitalized(text)}."


def quoted(value: object, longest: int = QUOTED_LENGTH) -> str:
    """Return a caller's value as an error shows it: short, on one line, in quotes unless it is a number.

    Characters that do not print (line ends, terminal escapes, half surrogate pairs) are shown as Python writes them.
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return number(value)
    if isinstance(value, str):
        return f"'{escaped(shortened(value, longest))}'"
    try:
        return escaped(shortened(repr(value), longest))
    except ValueError:  # it holds an integer that Python does not write
        return f"a {type(value).__name__}"


def escaped(text: str, *, keep: str = "") -> str:
    """Return a text that others wrote so that a terminal shows it and obeys nothing in it.

    Control characters, what changes the direction of writing, and half surrogate pairs are shown as Python writes
    them (`\\x1b`), except for those to `keep`, such as line ends.
    """
    return UNSEEN.sub(lambda found: found[0] if found[0] in keep else _python_escape(found[0]), text)


def folded(text: str | None) -> str:
    """Return a text as searches compare it: without a difference between capitals, widths and composed letters."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text or "").casefold())


def one_line(text: str) -> str:
    """Return a text that others wrote on one line: line ends and tabs as blanks, the rest as `escaped`."""
    return escaped(LINE_ENDS.sub(" ", text))


def _python_escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return `did you mean X?` for a name that is close to a known one, else `available: X, Y, …`."""
    names = list(known)
    near = get_close_matches(name.lower(), names, n=1)
    return f"did you mean {near[0]}?" if near else f"available: {', '.join(names)}"


def spelled(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` means: the same, or the same except for capitals, blanks and underscores."""
    names = list(known)
    if name in names:
        return name
    plain = {_plain(each): each for each in reversed(names)}
    return plain.get(_plain(name))


def _plain(name: str) -> str:
    return re.sub(r"[\s_]+", "-", name.strip().casefold())
