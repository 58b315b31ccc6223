"""Browsers that have signed in, and the links by which they may: both are files in the home, named by hashes.

Who can write into the home is its owner, so a link needs no token; and sessions survive a restart of the server. A
session ends when it is signed out of, when it was not used for long, and when the server's token is another one.
"""

import hashlib
import hmac
import logging
import secrets
import time
from contextlib import suppress
from pathlib import Path

from wan_mcp.files import atomic_file, writing_to

__all__ = ["LINK_S", "Sessions"]

log = logging.getLogger(__name__)

SESSION_S = 30 * 86_400.0  # since it was last used
LINK_S = 300.0
TOUCH_S = 3600.0  # a session's use is noted no more often
SECRET_CHARACTERS = 43  # of 32 random bytes in base64
FAILURES = 5  # wrong tokens that are answered at once
PAUSE_S, MAX_PAUSE_S = 1.0, 60.0  # after each further one, doubled


class Sessions:
    """The sessions and the links of one home."""

    def __init__(self, home: Path, token: str) -> None:
        self._token = token.encode()
        self._sessions, self._links = home / "sessions", home / "sign-in"
        self._failures = 0
        self._blocked_until = 0.0

    def make_link(self) -> tuple[str, Path]:
        """Return the secret of a link that signs in once, soon; and where a page that opens it may be written.

        Raises:
            HomeUnusable: the home cannot be written.
        """
        secret = secrets.token_urlsafe(32)
        self._sweep(self._links, LINK_S)
        with writing_to(self._links), atomic_file(self._links / _name(secret), private=True) as file:
            file.write_text("", encoding="ascii")
        return secret, self._links / f"{_name(secret)}.html"

    def redeem(self, secret: str) -> bool:
        """Check the secret of a link, which is of no use afterwards."""
        if len(secret) != SECRET_CHARACTERS:
            return False
        file = self._links / _name(secret)
        try:
            age = time.time() - file.stat().st_mtime
            file.unlink()  # of two that come at once, one fails here
        except OSError:
            return False
        with suppress(OSError):
            file.with_name(f"{file.name}.html").unlink()
        return -LINK_S < age < LINK_S

    def knows(self, token: str) -> bool:
        """Check a token that a person has typed."""
        right = bool(self._token) and hmac.compare_digest(token.strip().encode(), self._token)
        if right:
            self._failures = 0
            return True
        self._failures += 1
        if self._failures >= FAILURES:
            pause = min(MAX_PAUSE_S, PAUSE_S * 2 ** (self._failures - FAILURES))
            self._blocked_until = time.monotonic() + pause
        return False

    @property
    def pause_s(self) -> float:
        """Seconds until the next token is looked at: wrong ones are answered more and more slowly."""
        return max(0.0, self._blocked_until - time.monotonic())

    def begin(self) -> str:
        """Begin a session and return its value, for a cookie.

        Raises:
            HomeUnusable: the home cannot be written.
        """
        value = secrets.token_urlsafe(32)
        self._sweep(self._sessions, SESSION_S)
        with writing_to(self._sessions), atomic_file(self._sessions / _name(value), private=True) as file:
            file.write_text(self._seal(value), encoding="ascii")
        return value

    def holds(self, value: str) -> bool:
        """Check whether a cookie is that of a session."""
        if len(value) != SECRET_CHARACTERS:
            return False
        file = self._sessions / _name(value)
        try:
            used = file.stat().st_mtime
            seal = file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError):
            return False
        now = time.time()
        if now - used > SESSION_S or not hmac.compare_digest(seal, self._seal(value)):
            return False
        if now - used > TOUCH_S:
            with suppress(OSError):
                file.touch()
        return True

    def end(self, value: str) -> None:
        """End a session."""
        with suppress(OSError):
            (self._sessions / _name(value)).unlink()

    def _seal(self, value: str) -> str:
        """Return what binds a session to the token of this server."""
        return hmac.new(self._token, value.encode(), hashlib.sha256).hexdigest()

    def _sweep(self, folder: Path, longest_s: float) -> None:
        oldest = time.time() - longest_s
        with suppress(OSError):
            for file in folder.iterdir():
                with suppress(OSError):
                    if file.stat().st_mtime < oldest:
                        file.unlink()


def _name(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
