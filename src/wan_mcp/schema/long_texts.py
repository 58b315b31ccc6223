"""How a long text of a request is named where it is not kept itself: by its hash and its length.

The job table keeps such names in place of texts. A front puts one in place of an image in a message
(`media/kept_uris.py`); it looks like a data URI then, since that is what it stands for.
"""

import hashlib
import re

__all__ = ["name_in", "name_of", "stand_in"]

STAND_IN = re.compile(r"data:;(sha256:[0-9a-f]{64} of \d{1,12} characters)")


def name_of(text: str) -> str:
    """Return the name of a text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"sha256:{digest} of {len(text)} characters"


def stand_in(text: str) -> str:
    """Return what stands in a request for a data URI that is kept elsewhere."""
    return f"data:;{name_of(text)}"


def name_in(text: str) -> str | None:
    """Return the name in a stand-in; None for any other text."""
    found = STAND_IN.fullmatch(text)
    return found[1] if found else None
