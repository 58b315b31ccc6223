"""What a client elsewhere reads: nothing that names a place on this machine.

Answers are made for everybody alike; this is the last step of those for a client that is not near. It works on words,
so that a path is hidden wherever it comes from: a job of another client, an error, a manifest's remark. What such a
client may send is decided in `service/elsewhere.py`.
"""

import functools
import re
import sys
from pathlib import Path
from typing import Any

from starlette.types import Scope

from wan_mcp.settings import user_folder

__all__ = ["HIDDEN", "NEAR", "discreet", "hidden", "is_near"]

NEAR = "wan_mcp.near"
"""Key of a request's scope under which the HTTP front says that its client is the server's user on this machine."""

HIDDEN = "(a file on the server's machine)"
INPUT = re.compile(r"wan://inputs/[0-9a-f]{64}\.png")
"""An image that some client sent. Its address would give it to every other client."""
NOT_PATHS = frozenset({"prompt", "negative_prompt", "caption"})
"""Keys whose values are other people's words, which may look like anything."""
QUOTED = re.compile(r"""(['"“])(?:~[^/'"”]*)?/[^'"”/]+/[^'"”]+(['"”])""")
BARE = re.compile(r"""(?<![\w./:~-])(?:~[\w.-]*)?(?:/[^\s/'",;:()<>]+){2,}/?""")
"""An absolute path of two names or more; neither a part of a URL nor of a media type."""


def is_near(scope: Scope) -> bool:
    """Check whether the client of a request is the server's user on this machine."""
    return scope.get(NEAR) is True


def discreet(text: str, home: Path) -> str:
    """Return the text with every path of this machine hidden."""
    if "/" not in text:
        return text
    text = INPUT.sub(HIDDEN, text)
    for below in _folders_of_this_machine(home, user_folder()):
        text = below.sub(HIDDEN, text)
    return BARE.sub(HIDDEN, QUOTED.sub(rf"\1{HIDDEN}\2", text))


@functools.lru_cache(maxsize=8)  # an answer has a hundred texts
def _folders_of_this_machine(home: Path, user: Path | None) -> tuple[re.Pattern[str], ...]:
    """Return patterns of what lies below folders whose names may contain blanks."""
    roots = [root for root in (home, Path(sys.prefix), user) if root is not None and root != Path("/")]
    return tuple(re.compile(re.escape(str(root)) + r"""(?![\w.-])[^\s'",;()]*""") for root in roots)


def hidden(value: Any, home: Path) -> Any:
    """Return a JSON value with every path of this machine hidden."""
    if isinstance(value, str):
        return HIDDEN if _is_path(value) else discreet(value, home)
    if isinstance(value, list):
        return [hidden(each, home) for each in value]
    if isinstance(value, dict):
        return {key: each if key in NOT_PATHS else hidden(each, home) for key, each in value.items()}
    return value


def _is_path(text: str) -> bool:
    return text.startswith(("/", "~/", "file:")) and "\n" not in text
