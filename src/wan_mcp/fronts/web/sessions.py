"""Browsers that have signed in, and the links by which they may: both are files in the home, named by hashes.

Who can write into the home is its owner, so a link needs no token; and sessions survive a restart of the server. A
session ends when it is signed out of, when it was not used for long, and when the token that began it is changed or
revoked.
"""

import hashlib
import hmac
import logging
import secrets
import time
from contextlib import suppress
from pathlib import Path

from wan_mcp.files import atomic_file, writing_to
from wan_mcp.service.owners import HOME_USER
from wan_mcp.service.tokens import Tokens

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
        self._tokens = Tokens(home)
        self._sessions, self._links = home / "sessions", home / "sign-in"
        self._failures = 0
        self._blocked_until = 0.0

    def make_link(self, owner: str = HOME_USER) -> tuple[str, Path]:
        """Return the secret of a link that signs `owner` in once, soon; and where a page that opens it may be written.

        Raises:
            HomeUnusable: the home cannot be written.
        """
        secret = secrets.token_urlsafe(32)
        self._sweep(self._links, LINK_S)
        with writing_to(self._links), atomic_file(self._links / _name(secret), private=True) as file:
            file.write_text(owner, encoding="ascii")
        return secret, self._links / f"{_name(secret)}.html"

    def redeem(self, secret: str) -> str | None:
        """Return whom a link signs in, by its secret, which is of no use afterwards; None if it is of none now."""
        if len(secret) != SECRET_CHARACTERS:
            return None
        file = self._links / _name(secret)
        try:
            age = time.time() - file.stat().st_mtime
            owner = file.read_text(encoding="ascii")
            file.unlink()  # of two that come at once, one fails here
        except (OSError, UnicodeDecodeError):
            return None
        with suppress(OSError):
            file.with_name(f"{file.name}.html").unlink()
        return owner if -LINK_S < age < LINK_S and (owner == HOME_USER or self._tokens.of(owner)) else None

    def owner_of_token(self, token: str) -> str | None:
        """Return whose token a person has typed; None for a wrong one."""
        token = token.strip()
        if self._token and hmac.compare_digest(token.encode(), self._token):
            owner: str | None = HOME_USER
        else:
            owner = self._tokens.owner_of(token)
        if owner is not None:
            self._failures = 0
            return owner
        self._failures += 1
        if self._failures >= FAILURES:
            pause = min(MAX_PAUSE_S, PAUSE_S * 2 ** (self._failures - FAILURES))
            self._blocked_until = time.monotonic() + pause
        return None

    @property
    def pause_s(self) -> float:
        """Seconds until the next token is looked at: wrong ones are answered more and more slowly."""
        return max(0.0, self._blocked_until - time.monotonic())

    def begin(self, owner: str = HOME_USER) -> str:
        """Begin a session of an owner and return its value, for a cookie.

        Raises:
            HomeUnusable: the home cannot be written.
        """
        value = secrets.token_urlsafe(32)
        self._sweep(self._sessions, SESSION_S)
        with writing_to(self._sessions), atomic_file(self._sessions / _name(value), private=True) as file:
            file.write_text(f"{self._seal(value, owner)} {owner}".strip(), encoding="ascii")
        return value

    def owner_of(self, value: str) -> str | None:
        """Return whose session a cookie is that of; None if it is that of none."""
        if len(value) != SECRET_CHARACTERS:
            return None
        file = self._sessions / _name(value)
        try:
            used = file.stat().st_mtime
            seal, _, owner = file.read_text(encoding="ascii").partition(" ")
        except (OSError, UnicodeDecodeError):
            return None
        now, right = time.time(), self._seal(value, owner)
        if now - used > SESSION_S or not right or not hmac.compare_digest(seal, right):
            return None
        if now - used > TOUCH_S:
            with suppress(OSError):
                file.touch()
        return owner

    def end(self, value: str) -> None:
        """End a session."""
        with suppress(OSError):
            (self._sessions / _name(value)).unlink()

    def _seal(self, value: str, owner: str) -> str:
        """Return what binds a session to the token of its owner; an empty text if the owner has none any more."""
        key = self._token
        if owner != HOME_USER:
            named = self._tokens.of(owner)
            if named is None:
                return ""
            key = named.sha256.encode()
        return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()

    def _sweep(self, folder: Path, longest_s: float) -> None:
        oldest = time.time() - longest_s
        with suppress(OSError):
            for file in folder.iterdir():
                with suppress(OSError):
                    if file.stat().st_mtime < oldest:
                        file.unlink()


def _name(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
